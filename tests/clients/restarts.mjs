// `socket.io-client` and a server that stops, crashes, falls silent, and comes back on the same port.

import assert from "node:assert/strict";
import { TRANSPORTS, client, connect } from "./lib/socketio.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, once } from "./lib/wait.mjs";

export const suite = new Suite("socket.io-client and restarts");

const RECONNECT = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

const WAYS = Object.entries(TRANSPORTS);

/// Clients of every way, each with an inbox of the ids that it is given, and what else it needs from the start.
async function connectAll(t, server) {
  const clients = await Promise.all(WAYS.map(([, transports]) => connect(t, server.http, transports, RECONNECT)));
  for (const socket of clients) {
    ["disconnect", "message-back"].forEach((event) => socket.inbox(event));
    socket.ids = new Inbox();
    socket.firstId = socket.id;
    socket.on("connect", () => socket.ids.push(socket.id));
  }
  return clients;
}

/// Waits until all are connected again, as somebody new to the server.
async function expectBack(clients, what) {
  for (const [i, socket] of clients.entries()) {
    const id = await socket.ids.next(`${WAYS[i][0]} to be connected again, ${what}`);
    assert.notEqual(id, socket.firstId);
  }
}

suite.test("they come back by themselves, and what they said meanwhile arrives", "socket-io", async (t) => {
  const server = await t.own();
  const clients = await connectAll(t, server);
  const attempts = clients.map((socket) => once(socket.io, "reconnect_attempt"));
  const reconnected = clients.map((socket) => once(socket.io, "reconnect"));
  await server.stop();
  for (const [i, socket] of clients.entries()) {
    const [reason] = await socket.inbox("disconnect").next(`${WAYS[i][0]} to hear that the server stops`);
    assert.match(reason, /^transport (close|error)$/, "not a word that forbids to come back");
    assert.ok(socket.active, "it will try again");
    socket.emit("message", "said to nobody", i);
  }
  await Promise.all(attempts);
  await server.start();
  await expectBack(clients, "after a stop");
  await Promise.all(reconnected);
  for (const [i, socket] of clients.entries()) {
    assert.deepEqual(await socket.inbox("message-back").next("the answer"), ["said to nobody", i]);
  }
});

suite.test("a server that crashed is no different", "socket-io", async (t) => {
  const server = await t.own();
  const clients = await connectAll(t, server);
  await server.crash();
  for (const socket of clients) {
    assert.match((await socket.inbox("disconnect").next("the end"))[0], /^transport (close|error)$/);
  }
  await server.start();
  await expectBack(clients, "after a crash");
});

suite.test("a server that falls silent is given up, and found again when it wakes", "socket-io", async (t) => {
  const server = await t.own("--ping-timeout", "2s");
  const clients = await connectAll(t, server);
  server.pause();
  t.after(() => server.resume());
  for (const socket of clients) {
    assert.equal((await socket.inbox("disconnect").next("a ping that is missed"))[0], "ping timeout");
  }
  server.resume();
  await expectBack(clients, "after a pause");
});

suite.test("a client that does not answer pings is closed", "socket-io", async (t) => {
  const server = await t.own("--ping-timeout", "1s");
  const ends = WAYS.map(([, transports]) => {
    const socket = client(t, server.http, transports);
    const { engine } = socket.io;
    // Its own patience must not end first.
    engine.on("handshake", (handshake) => (handshake.pingTimeout = 60_000));
    const send = engine._sendPacket.bind(engine);
    engine._sendPacket = (type, ...rest) => type === "pong" || send(type, ...rest);
    return once(socket, "disconnect");
  });
  for (const end of ends) assert.match((await end)[0], /^transport (close|error)$/);
});

suite.test("who joins no namespace is closed after the connect timeout", "socket-io", async (t) => {
  const server = await t.own("--connect-timeout", "1s");
  const ends = WAYS.map(([, transports]) => {
    const { io } = client(t, server.http, transports, { autoConnect: false });
    // A manager without sockets opens the session and says nothing.
    io.open();
    return once(io, "close");
  });
  for (const end of ends) assert.match((await end)[0], /^transport (close|error)$/);
});

await mainIf(import.meta, suite);
