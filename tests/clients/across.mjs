// One hub: what is published through each mechanism reaches the subscribers of every other, exactly once and in one order.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import { Client, fetch } from "undici";
import WebSocket from "ws";
import { publish } from "./lib/publish.mjs";
import { TRANSPORTS, connect } from "./lib/socketio.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, once, within } from "./lib/wait.mjs";

export const suite = new Suite("across mechanisms");

/// Subscribers. Each returns, once it gets what is published from now on, an inbox of `{ id, event, data }` as far as it is told.
const SUBSCRIBERS = {
  async websocket(t, { ws }, topic) {
    const inbox = new Inbox();
    (await openWebSocket(t, ws, topic)).on("message", (data) => inbox.push({ data: String(data) }));
    return inbox;
  },

  async events(t, { http }, topic) {
    const inbox = new Inbox();
    const source = new EventSource(`${http}/events?topic=${topic}`);
    t.after(() => source.close());
    const push = ({ lastEventId, type, data }) => inbox.push({ id: parseInt(lastEventId, 10), event: type, data });
    ["message", "news", "chat message - server"].forEach((type) => source.addEventListener(type, push));
    await within(new Promise((resolve) => (source.onopen = resolve)), "an event stream");
    return inbox;
  },

  poll: (t, { http }, topic) => ask(t, http, (since) => `/poll?topic=${topic}&since=${since}`),

  longpoll: (t, { http }, topic) => ask(t, http, (since) => `/longpoll?topic=${topic}&since=${since}&timeout=2`),
};

for (const [way, transports] of Object.entries(TRANSPORTS)) {
  SUBSCRIBERS[`Socket.IO by ${way}`] = async (t, { http }, topic) => {
    const inbox = new Inbox();
    const socket = await connect(t, http, transports);
    for (const event of ["message", "news"]) socket.on(event, (data, { id }) => inbox.push({ id, event, data }));
    await new Promise((resolve) => socket.emit("join", topic, resolve));
    return inbox;
  };
}

/// Publishers. Each returns a function that publishes text.
const PUBLISHERS = {
  post: (t, { http }, topic) => (data) => publish(http, topic, data, { event: "news" }),

  async websocket(t, { ws }, topic) {
    const socket = await openWebSocket(t, ws, topic);
    return (data) => socket.send(data);
  },
};

for (const [way, transports] of Object.entries(TRANSPORTS)) {
  PUBLISHERS[`Socket.IO by ${way}`] = async (t, { http }, topic) => {
    const socket = await connect(t, http, transports);
    return (data) => socket.emit("publish", topic, "news", data);
  };
}

async function openWebSocket(t, ws, topic) {
  const socket = new WebSocket(`${ws}/broadcast?topic=${topic}`);
  t.after(() => socket.close());
  await once(socket, "open");
  return socket;
}

/// Asks again and again, from the event on that came last.
async function ask(t, http, path) {
  const inbox = new Inbox();
  const dispatcher = new Client(http);
  let goesOn = true;
  const loop = (async () => {
    for (let since = 0; goesOn; ) {
      const answer = await fetch(http + path(since), { dispatcher });
      const { events } = answer.status === 200 ? await answer.json() : { events: [] };
      events.forEach((event) => inbox.push(event));
      since = events.at(-1)?.id ?? since;
      if (!events.length) await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })().catch((error) => goesOn && inbox.push({ data: `no more after ${error.cause ?? error}` }));
  t.after(async () => {
    goesOn = false;
    await dispatcher.destroy();
    await loop;
  });
  return inbox;
}

const EACH = 4;

suite.test("everybody gets what anybody publishes, once and in order", "broadcast long-poll event-stream socket-io", async (t) => {
  const server = await t.server();
  const topic = t.unique();
  const inboxes = Object.entries(SUBSCRIBERS).map(async ([name, subscribe]) => [name, await subscribe(t, server, topic)]);
  const publishers = Object.entries(PUBLISHERS).map(async ([name, begin]) => [name, await begin(t, server, topic)]);
  const subscribers = await Promise.all(inboxes);
  await Promise.all(
    (await Promise.all(publishers)).map(async ([name, publish]) => {
      for (let i = 1; i <= EACH; i++) await publish(`${name} ${i}`);
    }),
  );
  const all = EACH * Object.keys(PUBLISHERS).length;
  const seen = await Promise.all(subscribers.map(([name, inbox]) => inbox.take(all, `all events to reach ${name}`)));
  // What came twice would come before this.
  await publish(server.http, topic, "the end");
  for (const [name, inbox] of subscribers) assert.equal((await inbox.next(`the end to reach ${name}`)).data, "the end");

  const order = seen[1].map(({ data }) => data);
  seen.forEach((events, who) => {
    const name = subscribers[who][0];
    assert.deepEqual(events.map(({ data }) => data), order, `${name} sees the same order`);
    if (name === "websocket") return;
    assert.deepEqual(events.map(({ id }) => id), order.map((_, i) => i + 1), `${name}: ids rise by one`);
    for (const { event, data } of events) assert.equal(event, data.startsWith("websocket") ? "message" : "news", name);
  });
  for (const name of Object.keys(PUBLISHERS)) {
    const mine = order.filter((data) => data.startsWith(`${name} `));
    assert.deepEqual(mine, Array.from({ length: EACH }, (_, i) => `${name} ${i + 1}`), `each of ${name} once, in its order`);
  }
});

suite.test("the chat of Socket.IO is a topic like any other", "broadcast long-poll event-stream socket-io", async (t) => {
  const server = await t.own();
  const [websocket, events, longpoll] = await Promise.all(
    ["websocket", "events", "longpoll"].map((name) => SUBSCRIBERS[name](t, server, "chat")),
  );
  const sockets = await Promise.all(Object.values(TRANSPORTS).map((transports) => connect(t, server.http, transports)));
  const heard = sockets.map((socket) => {
    const inbox = new Inbox();
    socket.on("chat message - server", (...args) => inbox.push(args));
    return inbox;
  });
  // Each waits for its own acknowledgement, so that there is one order.
  for (const [i, socket] of sockets.entries()) {
    assert.equal(await socket.timeout(20_000).emitWithAck("chat message - client", `from ${i}`), i + 1);
  }
  await publish(server.http, "chat", "from a page");
  const said = [...sockets.map((_, i) => `from ${i}`), "from a page"];
  for (const inbox of heard) assert.deepEqual(await inbox.take(said.length, "the chat"), said.map((text) => [text]));
  for (const inbox of [websocket, events, longpoll]) {
    assert.deepEqual((await inbox.take(said.length, "the chat")).map(({ data }) => data), said);
  }
});

suite.test("bytes are bytes to everyone who can have them", "broadcast long-poll event-stream socket-io", async (t) => {
  const server = await t.server();
  const topic = t.unique();
  const bytes = Buffer.from([0, 1, 254, 255]);
  const inboxes = [];
  for (const name of ["events", "longpoll", "Socket.IO by polling", "Socket.IO by websocket"]) {
    inboxes.push(await SUBSCRIBERS[name](t, server, topic));
  }
  const socket = await openWebSocket(t, server.ws, topic);
  const message = once(socket, "message");
  socket.send(bytes);
  assert.deepEqual(await message, [bytes, true]);
  const [stream, poll, ...sockets] = await Promise.all(inboxes.map((inbox) => inbox.next("the bytes")));
  assert.equal(stream.data, bytes.toString("base64"));
  assert.equal(poll.base64, bytes.toString("base64"));
  for (const { data } of sockets) assert.deepEqual(data, bytes);
});

await mainIf(import.meta, suite);
