// The notes' page of Socket.IO: two buttons, a line for each event of the connection, and numbers that both sides send once in a while.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { upgraded } from "../lib/socketio.mjs";
import { Suite, mainIf } from "../lib/suite.mjs";
import { Inbox, once, until } from "../lib/wait.mjs";

export const suite = new Suite("the Socket.IO page");

const QUICK = { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };

/// The page: what it was told, in `events`, each as its name and the first argument.
function page(t, url, options = {}) {
  const socket = io(url, { ...QUICK, ...options });
  t.after(() => socket.close());
  socket.events = new Inbox();
  const note = (event) => (argument) => socket.events.push([event, argument]);
  for (const event of ["connect", "connect_error", "disconnect"]) socket.on(event, note(event));
  // What is about connecting again concerns all namespaces of a connection, and is told by what they share.
  for (const event of ["reconnect_attempt", "reconnect_error", "reconnect_failed", "reconnect"]) socket.io.on(event, note(event));
  return socket;
}

/// All events up to and including the first of this name.
async function eventsUntil(socket, name) {
  const seen = [];
  while (seen.at(-1)?.[0] !== name) seen.push(await socket.events.next(`the event "${name}" after ${seen.map(([one]) => one)}`));
  return seen;
}

suite.test("numbers go both ways; a button closes, a button opens, and what was counted meanwhile arrives", "socket-io", async (t) => {
  const server = await t.server();
  const topic = t.unique();
  const socket = page(t, server.http);
  const ticks = new Inbox();
  socket.on("connect", () => socket.emit("join", "tick"));
  socket.on("message", (time, { id }) => ticks.push([id, Number(time)]));
  let number = 0;
  const timer = setInterval(() => socket.emit("publish", topic, "number", ++number), 5);
  t.after(() => clearInterval(timer));
  const poll = async () => (await (await fetch(`${server.http}/poll?topic=${topic}&since=0`)).json()).newest;

  const ids = new Set();
  for (let round = 1; round <= 3; round++) {
    await eventsUntil(socket, "connect");
    ids.add(socket.id);
    const [[first], [second]] = await ticks.take(2, "the server's numbers");
    assert.equal(second, first + 1);
    const before = await poll();
    await until(async () => (await poll()) > before, "the page's numbers");
    socket.close();
    assert.deepEqual(await socket.events.next("the close"), ["disconnect", "io client disconnect"]);
    assert.equal(socket.id, undefined);
    assert.ok(!socket.connected && !socket.active, "nothing connects it again but the other button");
    const counted = number;
    await until(() => number > counted, "the page to count on");
    ticks.drain();
    socket.open();
  }
  await eventsUntil(socket, "connect");
  clearInterval(timer);
  // The last one is a long way behind what is held, and each that is held is one more than the one before.
  await until(async () => (await poll()) >= number, "all numbers");
  const { newest, events } = await (await fetch(`${server.http}/poll?topic=${topic}&since=0`)).json();
  assert.equal(newest, number, "each number was published once");
  assert.deepEqual(events.map(({ data }) => Number(data)), events.map((_, i) => number - events.length + 1 + i));
  assert.equal(ids.size, 3, "each connection has an id of its own");
});

suite.test("what the page is told when the server goes and comes", "socket-io", async (t) => {
  const server = await t.own();
  const socket = page(t, server.http);
  assert.deepEqual(await socket.events.next("the connection"), ["connect", undefined]);
  const { id } = socket;
  await upgraded(socket);
  await server.stop();
  const [[event, reason], ...attempts] = await eventsUntil(socket, "reconnect_error");
  assert.equal(event, "disconnect");
  assert.match(reason, /^transport (close|error)$/);
  assert.deepEqual(attempts[0], ["reconnect_attempt", 1]);
  assert.deepEqual(attempts.map(([event]) => event).filter((event) => event.startsWith("reconnect")), ["reconnect_attempt", "reconnect_error"]);
  await server.start();
  const seen = await eventsUntil(socket, "connect");
  const numbers = seen.filter(([event]) => event === "reconnect_attempt").map(([, attempt]) => attempt);
  const back = seen.find(([event]) => event === "reconnect");
  assert.ok(back && back[1] >= 2, `the attempt that succeeded is told: ${JSON.stringify(back)}`);
  assert.deepEqual(numbers, numbers.map((_, i) => numbers[0] + i), "attempts are counted");
  assert.ok(socket.id && socket.id !== id);
});

suite.test("a page that is opened before the server", "socket-io", async (t) => {
  const server = await t.own();
  await server.stop();
  const socket = page(t, server.http);
  const [, error] = (await eventsUntil(socket, "connect_error")).at(-1);
  assert.ok(error instanceof Error);
  assert.ok(socket.active, "it goes on trying");
  socket.emit("publish", "early", null, "said to nobody yet");
  await server.start();
  await eventsUntil(socket, "connect");
  const { events } = await until(async () => {
    const answer = await (await fetch(`${server.http}/poll?topic=early&since=0`)).json();
    return answer.newest && answer;
  }, "what was said before there was a server");
  assert.deepEqual(events.map(({ data }) => data), ["said to nobody yet"]);
});

suite.test("a page that may try three times says that it gives up", "socket-io", async (t) => {
  const server = await t.own();
  const socket = page(t, server.http, { reconnectionAttempts: 3 });
  await eventsUntil(socket, "connect");
  await upgraded(socket);
  await server.stop();
  const seen = await eventsUntil(socket, "reconnect_failed");
  assert.deepEqual(seen.filter(([event]) => event === "reconnect_attempt"), [1, 2, 3].map((n) => ["reconnect_attempt", n]));
  assert.ok(!socket.connected);
  await server.start();
  socket.open();
  await once(socket, "connect");
});

await mainIf(import.meta, suite);
