// `socket.io-client` and a server that stops, crashes, falls silent, and comes back on the same port.

import assert from "node:assert/strict";
import { TRANSPORTS, client, connect } from "./lib/socketio.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { once } from "./lib/wait.mjs";

export const suite = new Suite("socket.io-client and restarts");

const RECONNECT = { reconnection: true, reconnectionDelay: 50, reconnectionDelayMax: 200 };

const WAYS = Object.entries(TRANSPORTS);

/// Clients of every way; each with the inboxes that it needs from the start.
async function connectAll(t, server) {
  const clients = await Promise.all(WAYS.map(([, transports]) => connect(t, server.http, transports, RECONNECT)));
  for (const socket of clients) ["disconnect", "message-back", "connect"].forEach((event) => socket.inbox(event));
  return clients;
}

async function expectBack(clients, what) {
  const ids = clients.map((socket) => socket.id);
  await Promise.all(clients.map((socket, i) => socket.inbox("connect").next(`${WAYS[i][0]} to be connected again, ${what}`)));
  clients.forEach((socket, i) => assert.ok(socket.connected && socket.id !== ids[i], "it is somebody new to the server"));
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
  const back = expectBack(clients, "after a stop");
  await server.start();
  await back;
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
  const back = expectBack(clients, "after a crash");
  await server.start();
  await back;
});

suite.test("a server that falls silent is given up, and tells nobody lies when it wakes", "socket-io", async (t) => {
  const server = await t.own("--ping-timeout", "1s");
  const clients = await connectAll(t, server);
  server.pause();
  t.after(() => server.resume());
  for (const socket of clients) {
    assert.equal((await socket.inbox("disconnect").next("a ping that is missed"))[0], "ping timeout");
  }
  const back = expectBack(clients, "after a pause");
  server.resume();
  await back;
});

suite.test("a client that does not answer pings is closed", "socket-io", async (t) => {
  const server = await t.own("--ping-timeout", "1s");
  const clients = await Promise.all(WAYS.map(([, transports]) => connect(t, server.http, transports)));
  const ends = clients.map((socket) => once(socket, "disconnect"));
  for (const { io } of clients) {
    const send = io.engine._sendPacket.bind(io.engine);
    io.engine._sendPacket = (type, ...rest) => type === "pong" || send(type, ...rest);
  }
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
