// How a page hears what is published: five ways, each with the same interface, each in one reading.
//
// A mechanism is `{ name, title, about, counted, attempt(link), publish(link, data, event) }`. `attempt` hears the events of `link.topic` after `link.cursor` until the
// connection is lost, and then throws a `Lost` that says why; `link.signal` is aborted when nobody listens any more. What comes in between, trying again
// and counting, is the same for all and stands in link.js. `publish` resolves when the server has the event.
//
//   import { subscribe, MECHANISMS } from './mechanisms.js';
//   const link = subscribe('sse', { topic: 'tick', cursor: null, onEvent: ({ data }) => console.log(data), onState: console.log });
//   link.close();

import { Link, Lost, about, parseCursor, post, sleep } from './link.js';

/** How long a long poll asks to be held, in seconds. */
const HOLD_S = 25;

/** The names under which Socket.IO's chat is sent and told. */
const CHAT_TO_SERVER = 'chat message - client';
const CHAT_TO_ALL = 'chat message - server';

/** Events of Socket.IO whose arguments another client has chosen, all of them: they can say that something was published, but not what. */
const PASSED_ON = [CHAT_TO_ALL, 'to-others', 'to-all'];

const byPost = (link, data, event) => post(link.topic, data, event);

/** Asks again and again. Each answer comes at once; most of them say that there is nothing. */
const shortPolling = {
  name: 'poll',
  title: 'short polling',
  about: 'asks every now and then; is answered at once, mostly in vain',
  counted: 'heads and bodies of all answers',

  async attempt(link) {
    let etag = '""';
    while (!link.signal.aborted) {
      const answer = await link.fetch(link.url('/poll'), { headers: { 'If-None-Match': etag } });
      etag = answer.headers.get('ETag') ?? '""';
      // 304: nothing new, in a head without a body. An answer that does not hold all of it is followed by the rest.
      const isMore = answer.status === 200 && link.take(JSON.parse(answer.text));
      if (!isMore) await sleep(link.every, link.signal);
    }
  },

  publish: byPost,
};

/** Asks, and the server keeps the request until it has something to say. */
const longPolling = {
  name: 'longpoll',
  title: 'long polling',
  about: 'asks once; is answered when there is something, and asks again',
  counted: 'heads and bodies of all answers',

  async attempt(link) {
    // What there is by now comes at once; so it is also known that the server is there.
    while (link.take(JSON.parse((await link.fetch(link.url('/poll'))).text)));
    while (!link.signal.aborted) {
      const url = link.url('/longpoll', { timeout: HOLD_S });
      const answer = await link.fetch(url, {}, HOLD_S * 1000);
      // 204: nothing came for so long. Only asking again tells that somebody still waits.
      if (answer.status === 200) link.take(JSON.parse(answer.text));
    }
  },

  publish: byPost,
};

/** Asks once for an answer that never ends: events are written into it as they come. */
const serverSentEvents = {
  name: 'sse',
  title: 'server-sent events',
  about: 'asks once; the answer never ends, and events are written into it',
  counted: 'events; the head of the stream and its comments are not visible to a page',

  attempt(link) {
    return new Promise((_, fail) => {
      // An EventSource comes again by itself, but gives up at the first refusal and shows nobody when it will. So each attempt is a new one.
      const source = new EventSource(link.url('/events', {}, 'lastEventId'));
      const answered = link.ask(fail);
      let isOpen = false;
      // An event of the stream that is called `open` or `error` is none of the connection's. This server publishes none, but who knows what stands before it.
      const isOwn = (event) => !(event instanceof MessageEvent);
      source.onopen = (event) => {
        if (!isOwn(event)) return;
        isOpen = true;
        answered();
        link.answered();
        // A stream without events shows a page nothing, not even which run of the server it is of. Who counts from an event on has to know.
        if (link.id !== null && !link.epoch) link.fetch(link.url('/poll')).then(({ text }) => link.take(JSON.parse(text)), fail);
      };
      source.onerror = (event) => {
        if (!isOwn(event)) return;
        source.close();
        link.whyNot(isOpen ? 'The stream ended.' : 'The stream could not be opened.').then(fail);
      };
      const listen = (name, take) => source.addEventListener(name, (heard) => {
        link.received(bytesOfEvent(heard), name === 'gap');
        take({ ...parseCursor(heard.lastEventId), event: name, data: heard.data });
      });
      // It hears only the names that it listens for.
      for (const name of ['message', ...link.events]) {
        listen(name, ({ id, epoch, event, data }) => {
          link.epoch = epoch;
          // A number that is left out was an event of another name: a poll tells what it was.
          if (link.id !== null && id > link.id + 1) link.fetch(link.url('/poll')).then(({ text }) => link.take(JSON.parse(text)), fail);
          else link.hear({ id, event, data });
        });
      }
      listen('gap', ({ id, epoch, data }) => {
        link.take({ newest: link.id ?? id, ...JSON.parse(data) });
        Object.assign(link, { id, epoch });
      });
      link.signal.addEventListener('abort', () => (source.close(), fail(new Lost('Closed.'))));
    });
  },

  publish: byPost,
};

/** Asks once for a connection that is no longer HTTP: messages go both ways, a few bytes around each. */
const webSocket = {
  name: 'websocket',
  title: 'WebSocket',
  about: 'asks once; from then on both sides say what they like, when they like',
  counted: 'frames, and the answer to the handshake as this server writes it; pings are not visible to a page',

  attempt(link) {
    return new Promise((_, fail) => {
      const socket = new WebSocket(link.url('/broadcast', { format: 'json' }).replace(/^http/, 'ws'));
      const answered = link.ask(fail);
      let isFirst = true;
      socket.onopen = () => (answered(), link.received(HANDSHAKE_BYTES, true));
      socket.onmessage = ({ data }) => {
        const said = JSON.parse(data);
        link.received(bytesOfFrame(data), isFirst);
        // First it says where the topic is, then everything after the cursor.
        if (isFirst) link.take(said), link.answered();
        else link.hear(said);
        isFirst = false;
      };
      socket.onclose = ({ code, reason }) => {
        const why = CLOSED[code] ?? `The server closed the connection (${code}${reason && `: ${reason}`}).`;
        if (isFirst && code === 1006) link.whyNot('The WebSocket could not be opened.').then(fail);
        else fail(new Lost(why));
      };
      link.socket = socket;
      link.signal.addEventListener('abort', () => (socket.close(), fail(new Lost('Closed.'))));
    });
  },

  // The socket knows no event names and no receipt: that it was published shows when it comes back.
  async publish(link, data) {
    if (link.socket?.readyState !== WebSocket.OPEN) throw new Lost('The WebSocket is not open.');
    link.socket.send(data);
    link.onTraffic({ what: 'sent', bytes: 0, isEmpty: false });
  },
};

const CLOSED = {
  1001: 'The server is going away.',
  1006: 'The connection broke.',
  1013: 'The server closed the connection because this tab read too slowly or the server is too busy.',
};

/** A protocol of its own over polls and WebSocket, with events, rooms, receipts and a heartbeat. */
const socketIo = {
  name: 'socketio',
  title: 'Socket.IO',
  about: 'long polls first, a WebSocket as soon as there is one; events, rooms and receipts on top',
  counted: 'bodies of polls, and frames; the heads of its polls are not visible to a page',

  async attempt(link) {
    const { io, path } = await loadSocketIo(() => link.change({ isSlow: true }));
    if (link.signal.aborted) throw new Lost('Closed.');
    // It would come again by itself; here the link does, so that all five are seen to do the same.
    const socket = io({ path, forceNew: true, reconnection: false });
    link.socket = socket;
    link.signal.addEventListener('abort', () => socket.disconnect());
    countPackets(link, socket, path);
    await new Promise((_, fail) => {
      const answered = link.ask(fail);
      // An event of the topic's room carries its number, other events of the chat do not: then `since` tells what there is.
      let isAsking = false;
      let isMore = false;
      const catchUp = async () => {
        isMore = true;
        if (isAsking) return;
        for (isAsking = true; isMore; ) {
          isMore = false;
          const found = await socket.timeout(10000).emitWithAck('since', link.topic, link.cursor);
          if (found.error) return fail(new Lost(`The server refuses: ${found.error}`));
          isMore = link.take(found) || isMore;
          answered();
          link.answered();
        }
        isAsking = false;
      };
      socket.onAny((event, data, meta) => {
        const isNext = meta?.topic === link.topic && meta.id === link.id + 1 && !PASSED_ON.includes(event);
        if (isNext && !isAsking) link.hear({ id: meta.id, event, data: typeof data === 'string' ? data : null });
        else if (meta?.topic === link.topic || link.events.includes(event)) catchUp().catch(fail);
      });
      socket.on('connect', () => {
        socket.emitWithAck('join', link.topic).then(catchUp).catch(fail);
      });
      socket.on('connect_error', ({ message }) => link.whyNot(`Socket.IO could not connect: ${message}.`).then(fail));
      socket.on('disconnect', (reason) => link.whyNot(`Socket.IO was disconnected: ${reason}.`).then(fail));
    });
  },

  async publish(link, data, event) {
    if (!link.socket?.connected) throw new Lost('Socket.IO is not connected.');
    link.onTraffic({ what: 'sent', bytes: 0, isEmpty: false });
    const sender = link.socket.timeout(10000);
    const isChat = event === CHAT_TO_ALL;
    const receipt = await (isChat ? sender.emitWithAck(CHAT_TO_SERVER, data) : sender.emitWithAck('publish', link.topic, event ?? null, data))
      .catch(() => { throw new Lost('No receipt came.'); });
    if (receipt?.error) throw new Lost(`The server refuses: ${receipt.error}`);
    return receipt;
  },
};

/** All of them, in the order in which they came about. */
export const MECHANISMS = [shortPolling, longPolling, serverSentEvents, webSocket, socketIo];

/** The mechanism of this name, or the first. */
export function mechanism(name) {
  return MECHANISMS.find((one) => one.name === name) ?? MECHANISMS[0];
}

/** Subscribes by the mechanism of this name; the options are those of `Link`. */
export function subscribe(name, options) {
  return new Link(mechanism(name), options);
}

// What came over the wire, as far as a page can know it.

const bytesOf = (text) => new TextEncoder().encode(text).length;

/** `HTTP/1.1 101 Switching Protocols`, Upgrade, Connection and a Sec-WebSocket-Accept of 28 characters. */
const HANDSHAKE_BYTES = bytesOf(
  'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \r\n\r\n',
) + 28;

/** A server's text frame (RFC 6455, section 5.2): its length takes no, two or eight bytes more. */
function bytesOfFrame(text) {
  const bytes = bytesOf(text);
  return bytes + (bytes < 126 ? 2 : bytes < 65536 ? 4 : 10);
}

/** An event as it stood in the stream: its fields, a line of data for each line, an empty line. */
function bytesOfEvent({ lastEventId, type, data }) {
  const name = type === 'message' ? '' : `event: ${type}\n`;
  return bytesOf(`id: ${lastEventId}\n${name}data: ${data.replaceAll('\n', '\ndata: ')}\n\n`);
}

/** Counts what Socket.IO hears: packets once it has a WebSocket, and before that its requests, which the browser keeps a list of. */
function countPackets(link, socket, path) {
  const begin = performance.now();
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (entry.startTime < begin || !new URL(entry.name).pathname.startsWith(path) || entry.initiatorType !== 'xmlhttprequest') continue;
      link.onTraffic({ what: 'aside', bytes: entry.encodedBodySize, isEmpty: false });
    }
  });
  observer.observe({ type: 'resource', buffered: true });
  link.signal.addEventListener('abort', () => observer.disconnect());
  socket.io.on('open', () => {
    socket.io.engine.on('packet', ({ data = '' }) => {
      if (socket.io.engine.transport.name !== 'websocket') return;
      link.received(bytesOfFrame(`0${data}`), !String(data).startsWith('2'));
    });
  });
}

let loading;

/** Socket.IO's own client, from this server: a classic script that leaves `io` behind. */
async function loadSocketIo(onSlow) {
  // Where it is, is asked each time: the server may be another one by now.
  const path = (await about(onSlow)).socketio_path;
  loading ??= new Promise((resolve, fail) => {
    const script = Object.assign(document.createElement('script'), { src: `${path}socket.io.min.js`, onload: resolve });
    script.onerror = () => ((loading = undefined), fail(new Lost("Socket.IO's client could not be loaded.")));
    document.head.append(script);
  });
  await loading;
  return { io: globalThis.io, path };
}
