// The notes that this project grew from: a server that is the client of another one, by Socket.IO and by WebSocket.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import WebSocket, { WebSocketServer } from "ws";
import { publish } from "../lib/publish.mjs";
import { upgraded } from "../lib/socketio.mjs";
import { Suite, mainIf } from "../lib/suite.mjs";
import { Inbox, once, until } from "../lib/wait.mjs";

export const suite = new Suite("a server as a client");

/// Connected for as long as it lives, however often the other side goes away.
function link(t, server) {
  const socket = io(server.http, { forceNew: true, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
  t.after(() => socket.close());
  return socket;
}

/// The data of all that a server holds of a topic.
async function held({ http }, topic) {
  const { events } = await (await fetch(`${http}/poll?topic=${topic}&since=0`)).json();
  return events.map(({ data }) => data);
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);

suite.test("what one server says is said by another, whichever of the two is started again", "socket-io", async (t) => {
  const [source, target] = await Promise.all([t.own(), t.own()]);
  const topic = t.unique();
  const joined = new Inbox();
  const [ears, mouth] = [link(t, source), link(t, target)];
  // A room is forgotten with the connection; what listens is registered once, or it would hear everything twice after a while.
  ears.on("connect", () => ears.emit("join", topic, () => joined.push(ears.id)));
  ears.on("news", (data) => mouth.emit("publish", topic, "news", data));
  const say = async (texts) => {
    for (const text of texts) await publish(source.http, topic, text, { event: "news" });
  };
  const expect = async (texts, when) => {
    await until(async () => (await held(target, topic)).length >= texts.length, `the other server to hold all of it ${when}`);
    assert.deepEqual(await held(target, topic), texts, when);
  };

  const first = await joined.next("the room");
  await say(numbers(1, 3));
  await expect(numbers(1, 3), "at the start");

  await upgraded(ears);
  await source.stop();
  await source.start();
  assert.notEqual(await joined.next("the room after the first server is back"), first);
  await say(numbers(4, 6));
  await expect(numbers(1, 6), "after the first one was away");

  // Whoever emits while it is not connected keeps that until it is.
  await upgraded(mouth);
  const lost = once(mouth, "disconnect");
  await target.stop();
  await lost;
  await say(numbers(7, 9));
  await target.start();
  await expect(numbers(7, 9), "after the second one was away");
});

suite.test("who sends back all that it hears sends each once, also after a restart", "socket-io", async (t) => {
  const server = await t.own("--tick", "20ms", "--history", "1000");
  const topic = t.unique();
  const heard = new Inbox();
  const socket = link(t, server);
  socket.on("connect", () => socket.emit("join", "tick"));
  socket.on("message", (time, { id }) => socket.emit("publish", topic, "back", `${time} ${id}`, () => heard.push([id, time])));
  for (const when of ["at the start", "after a restart"]) {
    heard.drain();
    const ticks = await heard.take(5, `ticks ${when}`);
    const [first] = ticks[0];
    assert.deepEqual(ticks.map(([id]) => id), ticks.map((_, i) => first + i), `no tick is missing ${when}`);
    // A ticker that is late may tell the same time twice.
    const sent = ticks.map(([id, time]) => `${time} ${id}`);
    const answers = await held(server, topic);
    assert.deepEqual(answers.filter((tick) => sent.includes(tick)), sent, `each comes back once ${when}`);
    if (when === "after a restart") break;
    await upgraded(socket);
    const lost = once(socket, "disconnect");
    await server.stop();
    await lost;
    await server.start();
    await until(() => socket.connected, "a connection to the new server");
  }
});

suite.test("a WebSocket server of `ws` in front of ours tells all of its clients what it hears", "broadcast", async (t) => {
  const server = await t.own();
  const topic = t.unique();
  const opened = new Inbox();
  const gateway = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  let upstream;
  let goesOn = true;
  const connect = () => {
    upstream = new WebSocket(`${server.ws}/broadcast?topic=${topic}`);
    upstream.on("open", () => opened.push(upstream));
    upstream.on("message", (data, binary) => gateway.clients.forEach((client) => client.send(data, { binary })));
    // An error is followed by a close, so that alone begins again.
    upstream.on("error", () => {});
    upstream.on("close", () => goesOn && setTimeout(connect, 20));
  };
  gateway.on("connection", (client) => client.on("message", (data, binary) => upstream.send(data, { binary })));
  t.after(() => {
    goesOn = false;
    upstream.terminate();
    gateway.clients.forEach((client) => client.terminate());
    gateway.close();
  });
  connect();
  await opened.next("the server behind");

  const join = async (url) => {
    const client = new WebSocket(url);
    t.after(() => client.terminate());
    client.inbox = new Inbox();
    client.on("message", (data) => client.inbox.push(String(data)));
    await once(client, "open");
    return client;
  };
  const near = await Promise.all([1, 2].map(() => join(`ws://127.0.0.1:${gateway.address().port}`)));
  for (const when of ["at the start", "after a restart"]) {
    const direct = await join(`${server.ws}/broadcast?topic=${topic}`);
    for (const [speaker, text] of [[near[0], `from a client, ${when}`], [direct, `from the hub, ${when}`]]) {
      speaker.send(text);
      for (const client of [...near, direct]) assert.equal(await client.inbox.next(text), text);
    }
    if (when === "after a restart") break;
    await server.stop();
    await server.start();
    await opened.next("the server behind, which is back");
  }
});

await mainIf(import.meta, suite);
