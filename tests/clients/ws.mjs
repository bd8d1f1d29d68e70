// The `ws` client: what a WebSocket is to the programs of Node.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import WebSocket from "ws";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, once, within } from "./lib/wait.mjs";

export const suite = new Suite("ws");

/// An open WebSocket with an inbox of `[data, isBinary]`.
async function open(t, url, options) {
  const socket = new WebSocket(url, options);
  socket.inbox = new Inbox();
  socket.closed = new Promise((resolve) => socket.once("close", (code, reason) => resolve([code, String(reason)])));
  socket.on("close", (code, reason) => t.log.push(`a WebSocket on ${url} was closed: ${code} ${reason}`));
  socket.on("message", (data, isBinary) => socket.inbox.push([isBinary ? data : String(data), isBinary]));
  t.after(() => close(socket));
  await within(
    new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject)),
    `a WebSocket on ${url}`,
  );
  socket.on("error", () => {});
  return socket;
}

async function close(socket) {
  if (socket.readyState === WebSocket.OPEN) socket.close();
  await within(socket.closed, "a WebSocket to close").catch(() => socket.terminate());
}

const closed = (socket, why) => within(socket.closed, `the close of one that ${why}`);

suite.test("every message comes back as it was, in order", "echo", async (t) => {
  const { ws } = await t.server();
  const socket = await open(t, `${ws}/echo`);
  const messages = ["", "a", "€ 🦀", Buffer.alloc(0), randomBytes(125), randomBytes(126), "x".repeat(65_535), randomBytes(65_536)];
  for (const message of messages) socket.send(message);
  for (let i = 0; i < 1000; i++) socket.send(`number ${i}`);
  for (const message of messages) {
    assert.deepEqual(await socket.inbox.next("an echo"), [message, typeof message !== "string"]);
  }
  const numbers = await socket.inbox.take(1000, "a thousand echoes");
  numbers.forEach(([text], i) => assert.equal(text, `number ${i}`));
});

suite.test("large messages, and messages in pieces", "echo", async (t) => {
  const { ws } = await t.server();
  const socket = await open(t, `${ws}/echo`);
  const large = randomBytes(2 << 20);
  socket.send(large);
  const [echo, isBinary] = await socket.inbox.next("the echo of 2 MiB");
  assert.ok(isBinary && large.equals(echo), "2 MiB come back as they were");
  socket.send("a piece, ", { fin: false });
  socket.send("", { fin: false });
  socket.ping("between");
  socket.send("and another", { fin: true });
  assert.deepEqual(await socket.inbox.next("the echo of the pieces"), ["a piece, and another", false]);
});

suite.test("a ping is answered with what it said", "echo", async (t) => {
  const { ws } = await t.server();
  const socket = await open(t, `${ws}/echo`);
  const pong = once(socket, "pong");
  socket.ping("are you there?");
  assert.equal(String((await pong)[0]), "are you there?");
});

suite.test("a silent one is pinged, and closed if it does not answer", "echo heartbeat together", async (t) => {
  const { ws } = await t.server("tight");
  const [alive, dead] = [await open(t, `${ws}/echo`), await open(t, `${ws}/echo`, { autoPong: false })];
  await once(alive, "ping");
  assert.equal((await closed(dead, "does not answer pings"))[0], 1008);
  assert.equal(alive.readyState, WebSocket.OPEN);
});

const expectCode = async (t, act, code) => {
  const socket = await open(t, `${(await t.server()).ws}/echo`);
  act(socket);
  assert.equal((await closed(socket, `expects ${code}`))[0], code);
};

suite.test("each way to close is answered with its code", "echo", async (t) => {
  await expectCode(t, (socket) => socket.close(), 1005);
  await expectCode(t, (socket) => socket.close(1000, "done"), 1000);
  await expectCode(t, (socket) => socket.close(4321, "of my own"), 4321);
});

// `threads-direct` hangs up without a word; it speaks no HTTP either, so that is what is asked for.
suite.test("who breaks a rule is told which", "echo http", async (t) => {
  await expectCode(t, (socket) => socket.send(Buffer.from([0xc0, 0x80]), { binary: false }), 1007);
  await expectCode(t, (socket) => socket.send(Buffer.alloc((2 << 20) + 1)), 1009);
  const continuationOfNothing = Buffer.from([0x80, 0x80, 0, 0, 0, 0]);
  await expectCode(t, (socket) => socket._socket.write(continuationOfNothing), 1002);
});

suite.test("what is no WebSocket is answered with its status", "http echo", async (t) => {
  const { ws } = await t.server();
  for (const [path, options, status] of [
    ["/nowhere", {}, 404],
    ["/echo", { origin: "https://other.example" }, 403],
    ["/echo", { protocolVersion: 8 }, 426],
  ]) {
    const socket = new WebSocket(ws + path, options);
    socket.on("error", () => {});
    const [request, answer] = await once(socket, "unexpected-response");
    assert.equal(answer.statusCode, status, path);
    request.destroy();
  }
  const page = await open(t, `${ws}/echo`, { origin: "https://page.example" });
  page.send("welcome");
  assert.equal((await page.inbox.next("an echo"))[0], "welcome");
});

suite.test("of the subprotocols that it offers the first is agreed to", "http echo broadcast", async (t) => {
  const { ws } = await t.server();
  for (const path of ["/echo", "/broadcast"]) {
    const socket = new WebSocket(ws + path, ["v2.chat.example", "chat"]);
    t.after(() => socket.terminate());
    await once(socket, "open");
    assert.equal(socket.protocol, "v2.chat.example", path);
  }
});

suite.test("a page of another site opens no WebSocket, whatever was set", "http echo", async (t) => {
  // Nothing was set at all.
  const { ws, http } = await t.server("pages");
  for (const origin of ["https://other.example", "null", http.replace(/[0-9]+$/, "1")]) {
    const socket = new WebSocket(`${ws}/echo`, { origin });
    socket.on("error", () => {});
    const [request, answer] = await once(socket, "unexpected-response");
    assert.equal(answer.statusCode, 403, origin);
    request.destroy();
  }
  const own = await open(t, `${ws}/echo`, { origin: http });
  own.send("welcome");
  assert.equal((await own.inbox.next("an echo"))[0], "welcome");
});

suite.test("everyone on a topic gets everything, nobody else does", "broadcast", async (t) => {
  const { ws } = await t.server();
  const [topic, other] = [t.unique(), t.unique()];
  const [teacher, student] = [await open(t, `${ws}/broadcast?topic=${topic}`), await open(t, `${ws}/broadcast?topic=${topic}`)];
  const stranger = await open(t, `${ws}/broadcast?topic=${other}`);
  const binary = randomBytes(300_000);
  teacher.send("from Teacher");
  assert.deepEqual(await student.inbox.next("what Teacher said"), ["from Teacher", false]);
  assert.deepEqual(await teacher.inbox.next("her own words"), ["from Teacher", false]);
  student.send(binary);
  assert.deepEqual(await teacher.inbox.next("Student's bytes"), [binary, true]);
  stranger.send("alone");
  assert.deepEqual(await stranger.inbox.next("its own words"), ["alone", false], "and nothing before them");
});

suite.test("time stamps of several clients reach each of them once", "broadcast", async (t) => {
  const { ws } = await t.server();
  const topic = t.unique();
  const clients = await Promise.all(Array.from({ length: 4 }, () => open(t, `${ws}/broadcast?topic=${topic}`)));
  const ROUNDS = 25;
  for (let i = 0; i < ROUNDS; i++) {
    clients.forEach((client, who) => client.send(`${who} ${i} ${Date.now()}`));
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const seen = await Promise.all(clients.map((client) => client.inbox.take(4 * ROUNDS, "all time stamps")));
  for (const list of seen) assert.deepEqual(list, seen[0], "in the same order for all");
  clients.forEach((_, who) => {
    const mine = seen[0].map(([text]) => text.split(" ")).filter(([sender]) => Number(sender) === who);
    assert.deepEqual(mine.map(([, i]) => Number(i)), [...Array(ROUNDS).keys()]);
  });
});

suite.test("whoever does not read is closed with 1013, and nobody waits for it", "broadcast", async (t) => {
  const { ws } = await t.own("--max-unsent-bytes", "512KiB");
  const [slow, fast] = [await open(t, `${ws}/broadcast`), await open(t, `${ws}/broadcast`)];
  slow.pause();
  t.after(() => slow.resume());
  const message = randomBytes(256 << 10);
  const begin = Date.now();
  // More than the kernel's buffers and that limit hold together.
  for (let i = 0; i < 32; i++) {
    fast.send(message);
    await fast.inbox.next("its own message");
  }
  // The server keeps its goodbye for two seconds. On a machine that is so busy that this took longer, there is none.
  const codes = Date.now() - begin < 2000 ? [1013] : [1013, 1006];
  slow.resume();
  const [code] = await closed(slow, "does not read");
  assert.ok(codes.includes(code), `closed with ${code}`);
});

suite.test("a server that stops says so with 1001", "echo broadcast", async (t) => {
  const server = await t.own();
  const sockets = [await open(t, `${server.ws}/echo`), await open(t, `${server.ws}/broadcast`)];
  await server.stop();
  for (const socket of sockets) assert.equal((await closed(socket, "was told to go"))[0], 1001);
  await server.start();
  const socket = await open(t, `${server.ws}/echo`);
  socket.send("back again");
  assert.equal((await socket.inbox.next("an echo"))[0], "back again");
});

await mainIf(import.meta, suite);
