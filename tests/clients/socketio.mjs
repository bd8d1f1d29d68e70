// `socket.io-client` 4, connected in each way: events, acknowledgements, binary data, namespaces, rooms, and what the server emits.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Manager } from "socket.io-client";
import { TRANSPORTS, client, connect, withInboxes } from "./lib/socketio.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { once, within } from "./lib/wait.mjs";

export const suite = new Suite("socket.io-client");

/// A case for each way to be connected.
function test(name, run) {
  for (const [way, transports] of Object.entries(TRANSPORTS)) {
    suite.test(`${way}: ${name}`, "socket-io", async (t) => run(t, (await t.server()).http, transports, way));
  }
}

const nested = () => ({ text: "€ 🦀 \n\"", list: [1, -2.5, 1e300, null, true, {}], deep: { er: [[]] } });

test("the handshake's auth and messages come back", async (t, url, transports, way) => {
  const socket = client(t, url, transports, { auth: { token: "€", n: 1 } });
  const [auth, back] = [socket.inbox("auth"), socket.inbox("message-back")];
  await once(socket, "connect");
  assert.deepEqual(await auth.next("the auth"), [{ token: "€", n: 1 }]);
  assert.equal(typeof socket.id, "string");
  for (const args of [[], [1], ["a", 2, nested()], [null, false, ""]]) {
    socket.emit("message", ...args);
    assert.deepEqual(await back.next("message-back"), args);
  }
  const name = socket.io.engine.transport.name;
  if (way !== "upgrade") assert.equal(name, way === "fetch" ? "polling" : way);
});

test("acknowledgements, in both directions", async (t, url, transports) => {
  const socket = await connect(t, url, transports);
  assert.deepEqual(await socket.timeout(20_000).emitWithAck("message-with-ack", nested()), nested());
  const all = within(new Promise((resolve) => socket.emit("message-with-ack", 1, "b", (...args) => resolve(args))), "an ack");
  assert.deepEqual(await all, [1, "b"]);
  socket.on("question", (...args) => args.pop()("I say", args));
  const answered = socket.inbox("answered");
  socket.emit("ask-me", "what", { is: "it" });
  assert.deepEqual(await answered.next("what was answered"), ["I say", ["what", { is: "it" }]]);
  await assert.rejects(socket.timeout(50).emitWithAck("nobody knows this"), /timed out/);
  // Fifty at the same time, each with its own answer.
  const many = await Promise.all([...Array(50).keys()].map((n) => socket.timeout(20_000).emitWithAck("message-with-ack", n)));
  assert.deepEqual(many, [...Array(50).keys()]);
});

test("binary data, several attachments in one event", async (t, url, transports) => {
  const socket = await connect(t, url, transports);
  const back = socket.inbox("message-back");
  const [one, two] = [randomBytes(100), randomBytes(100_000)];
  socket.emit("message", one, { two, list: [Buffer.alloc(0), "text"] }, 3);
  assert.deepEqual(await back.next("attachments"), [one, { two, list: [Buffer.alloc(0), "text"] }, 3]);
  assert.deepEqual(await socket.timeout(20_000).emitWithAck("message-with-ack", { one }), { one });
  socket.on("question", (bytes, answer) => answer(Buffer.concat([bytes, bytes])));
  const answered = socket.inbox("answered");
  socket.emit("ask-me", one);
  assert.deepEqual(await answered.next("a binary answer"), [Buffer.concat([one, one])]);
});

test("a burst comes back complete and in order, also through an upgrade", async (t, url, transports) => {
  const socket = client(t, url, transports);
  const back = socket.inbox("message-back");
  await once(socket, "connect");
  const COUNT = 300;
  // The upgrade goes on meanwhile. Payloads of more than maxPayload have to be divided by the client.
  for (let n = 0; n < COUNT; n++) {
    if (n % 50 === 0) await new Promise(setImmediate);
    socket.emit("message", n, n % 10 ? "" : "x".repeat(50_000));
  }
  const seen = await back.take(COUNT, "the whole burst");
  assert.deepEqual(seen.map(([n]) => n), [...Array(COUNT).keys()]);
  assert.ok(seen.every(([n, text]) => text.length === (n % 10 ? 0 : 50_000)));
});

test("two namespaces on one connection, and none that does not exist", async (t, url, transports) => {
  const manager = new Manager(url, { transports, reconnection: false });
  t.after(() => manager._close());
  const [main, custom, unknown] = ["/", "/custom", "/unknown"].map((name) => withInboxes(manager.socket(name, { auth: { name } })));
  const auths = [main.inbox("auth"), custom.inbox("auth")];
  const refused = once(unknown, "connect_error");
  assert.deepEqual(await auths[0].next("the auth in /"), [{ name: "/" }]);
  assert.deepEqual(await auths[1].next("the auth in /custom"), [{ name: "/custom" }]);
  assert.equal((await refused)[0].message, "Invalid namespace");
  assert.ok(!unknown.connected);
  assert.notEqual(main.id, custom.id);
  const back = [main.inbox("message-back"), custom.inbox("message-back")];
  custom.emit("message", "in custom", Buffer.from("b"));
  assert.deepEqual(await back[1].next("what was said in /custom"), ["in custom", Buffer.from("b")]);
  main.disconnect();
  assert.equal(await custom.timeout(20_000).emitWithAck("message-with-ack", "still there"), "still there");
  assert.deepEqual(back[0].drain(), []);
  main.connect();
  assert.deepEqual(await auths[0].next("the auth after coming back"), [{ name: "/" }]);
});

test("rooms get what is published on the topic of their name", async (t, url, transports) => {
  const room = t.unique("room");
  const [teacher, student] = [await connect(t, url, transports), await connect(t, url, transports)];
  const ack = (socket, ...args) => socket.timeout(20_000).emitWithAck(...args);
  const inboxes = [teacher.inbox("news"), student.inbox("news")];
  for (const socket of [teacher, student]) await new Promise((resolve) => socket.emit("join", room, resolve));
  assert.equal(await ack(teacher, "publish", room, "news", "for all"), 1);
  for (const inbox of inboxes) assert.deepEqual(await inbox.next("news"), ["for all", { topic: room, id: 1 }]);
  await new Promise((resolve) => student.emit("leave", room, resolve));
  assert.equal(await ack(student, "publish", room, "news", Buffer.from([1, 2])), 2);
  assert.deepEqual(await inboxes[0].next("news"), [Buffer.from([1, 2]), { topic: room, id: 2 }]);
  await new Promise((resolve) => student.emit("join", room, resolve));
  const message = student.inbox("message");
  assert.equal(await ack(teacher, "publish", room, null, { a: 1 }), 3);
  assert.deepEqual(await message.next("an event without a name"), ['{"a":1}', { topic: room, id: 3 }]);
  assert.deepEqual(inboxes[1].drain(), [], "nothing while it was not there");
  assert.match((await ack(teacher, "publish", room)).error, /publish takes/);
  assert.match((await ack(teacher, "join", "")).error, /name of a room/);
});

test("nobody is thrown out by what another publishes or passes on", async (t, url, transports) => {
  const room = t.unique("room");
  const [member, sender] = [await connect(t, url, transports), await connect(t, url, transports)];
  await new Promise((resolve) => member.emit("join", room, resolve));
  const ack = (...args) => sender.timeout(20_000).emitWithAck(...args);
  const RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "error", "open", "gap"];
  for (const event of [...RESERVED, "", "a\nb", "x".repeat(256)]) {
    const posted = await fetch(`${url}/publish?topic=${room}&event=${encodeURIComponent(event)}`, { method: "POST", body: "x" });
    // In a query a name that is empty is none.
    if (event !== "") assert.equal(posted.status, 400, event);
    assert.equal(typeof (await ack("publish", room, event, "x")).error, "string", event);
  }
  const news = member.inbox("news");
  // Deeper than a client can put attachments into their places: that would be a "parse error" to each of them.
  sender.emit("to-others", Array.from({ length: 3000 }).reduce((deep) => [deep], []), Buffer.from("b"));
  assert.equal(typeof (await ack("publish", room, "news", "x")), "number");
  await news.next("the first event of that name");
  assert.ok(member.connected && sender.connected);
});

test("to oneself, to the others, to all, and who is there", async (t, url, transports) => {
  // Other cases are connected to the same server, so what is said has to be recognized.
  const word = t.unique("word");
  const clients = [];
  for (let i = 0; i < 3; i++) clients.push(await connect(t, url, transports));
  const hear = (event) => clients.map((socket) => socket.inbox(event));
  const [me, others, all, chat] = ["to-me", "to-others", "to-all", "chat message - server"].map(hear);
  const mine = async (inbox) => {
    for (;;) {
      const args = await inbox.next(`"${word}"`);
      if (String(args[0]).startsWith(word)) return args;
    }
  };
  const [sender] = clients;
  sender.emit("to-me", `${word} me`, 1);
  sender.emit("to-others", `${word} others`);
  sender.emit("to-all", `${word} all`, Buffer.from("b"));
  sender.emit("chat message - client", `${word} chat`);
  assert.deepEqual(await mine(me[0]), [`${word} me`, 1]);
  for (const inbox of all) assert.deepEqual(await mine(inbox), [`${word} all`, Buffer.from("b")]);
  for (const inbox of others.slice(1)) assert.deepEqual(await mine(inbox), [`${word} others`]);
  for (const inbox of chat) assert.deepEqual(await mine(inbox), [`${word} chat`]);
  // Each is told in the order of what was said, so what is not there by now does not come.
  const rest = [...me.slice(1), others[0], ...chat].flatMap((inbox) => inbox.drain());
  assert.ok(!rest.some(([text]) => String(text).startsWith(word)), "nobody else heard it, nobody twice");
  const ids = await sender.timeout(20_000).emitWithAck("clients");
  assert.ok(clients.every((socket) => ids.includes(socket.id)));
});

test("each end has its reason", async (t, url, transports) => {
  const socket = await connect(t, url, transports);
  const reasons = socket.inbox("disconnect");
  socket.emit("disconnect-me");
  assert.equal((await reasons.next("the server's goodbye"))[0], "io server disconnect");
  assert.ok(!socket.connected);
  // What a button "close", a button "open" do.
  const ids = new Set();
  for (let i = 0; i < 3; i++) {
    socket.open();
    await once(socket, "connect");
    ids.add(socket.id);
    assert.equal(await socket.timeout(20_000).emitWithAck("message-with-ack", i), i);
    socket.close();
    assert.equal((await reasons.next("its own goodbye"))[0], "io client disconnect");
  }
  assert.equal(ids.size, 3, "each time it is somebody else");
});

test("pings go on and the connection with them", async (t, url, transports) => {
  const socket = await connect(t, url, transports);
  for (let i = 0; i < 4; i++) await once(socket.io, "ping");
  assert.ok(socket.connected);
  assert.equal(await socket.timeout(20_000).emitWithAck("message-with-ack", "alive"), "alive");
});

await mainIf(import.meta, suite);
