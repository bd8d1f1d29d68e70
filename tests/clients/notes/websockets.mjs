// The notes' WebSocket programs: the client of `ws`, which sends on an interval, and a page's, with `onopen` and its like. The pages' way is
// tried with two implementations that have nothing in common.

import assert from "node:assert/strict";
import { WebSocket as BrowserWebSocket } from "undici";
import WebSocket from "ws";
import { Suite, mainIf } from "../lib/suite.mjs";
import { Inbox, once, until } from "../lib/wait.mjs";

export const suite = new Suite("WebSocket programs");

suite.test("a client that sends the time on an interval until it closes", "echo", async (t) => {
  const { ws } = await t.server();
  const socket = new WebSocket(`${ws}/echo`);
  t.after(() => socket.terminate());
  const [sent, back] = [[], new Inbox()];
  let timer;
  socket.on("open", () => {
    timer = setInterval(() => {
      sent.push(String(Date.now()));
      socket.send(sent.at(-1));
    }, 2);
  });
  socket.on("message", (data) => back.push(String(data)));
  socket.on("close", () => clearInterval(timer));
  const seen = await back.take(20, "the times to come back");
  const closed = once(socket, "close");
  socket.close(1000);
  assert.equal((await closed)[0], 1000);
  // What was on its way when it closed comes before the close, or was sent too late to be answered.
  seen.push(...back.drain());
  assert.deepEqual(seen, sent.slice(0, seen.length));
});

suite.test("nobody there is an error and then a close; a client that tries again finds the server that comes", "echo http", async (t) => {
  const server = await t.own();
  await server.stop();
  const seen = new Inbox();
  let goesOn = true;
  let socket;
  const connect = () => {
    socket = new WebSocket(`${server.ws}/echo`);
    socket.on("open", () => seen.push(["open"]));
    socket.on("error", ({ code }) => seen.push(["error", code]));
    socket.on("close", (code) => {
      seen.push(["close", code]);
      if (goesOn) setTimeout(connect, 10);
    });
  };
  t.after(() => {
    goesOn = false;
    socket.terminate();
  });
  connect();
  assert.deepEqual(await seen.take(2, "the refusal"), [["error", "ECONNREFUSED"], ["close", 1006]]);
  await server.start();
  await until(() => seen.drain().some(([event]) => event === "open"), "a connection");
  socket.send("there you are");
  assert.equal(String((await once(socket, "message"))[0]), "there you are");
  await server.stop();
  assert.deepEqual(await seen.next("the server's goodbye"), ["close", 1001]);
});

for (const [whose, Implementation] of [["`ws`", WebSocket], ["undici", BrowserWebSocket]]) {
  /// A page's socket; its handlers put what they are told into `events`.
  const open = (t, url) => {
    const socket = new Implementation(url);
    socket.binaryType = "arraybuffer";
    const events = new Inbox();
    socket.onopen = () => events.push(["open"]);
    socket.onmessage = ({ data }) => events.push(["message", typeof data === "string" ? data : Buffer.from(data)]);
    socket.onerror = () => events.push(["error"]);
    socket.onclose = ({ code, wasClean }) => events.push(["close", code, wasClean]);
    t.after(async () => {
      if (socket.readyState > Implementation.OPEN) return;
      socket.close();
      await until(() => socket.readyState === Implementation.CLOSED, "a page's socket to close");
    });
    return { socket, events };
  };

  // The model that serves one connection after the other is asked for its page first.
  suite.test(`a page's socket, by ${whose}, on the port that the page came from`, "echo http", async (t) => {
    const server = await t.server();
    const page = await fetch(server.http, { headers: { connection: "close" } });
    assert.match(await page.text(), /<!doctype html>/i);
    const { socket, events } = open(t, `${server.ws}/echo`);
    assert.equal(socket.readyState, Implementation.CONNECTING);
    assert.deepEqual(await events.next("open"), ["open"]);
    const bytes = Buffer.from([0, 1, 254, 255]);
    for (const data of ["a page says hello", "1", "", "€ 🦀"]) {
      socket.send(data);
      assert.deepEqual(await events.next("an answer"), ["message", data]);
    }
    socket.send(bytes);
    assert.deepEqual(await events.next("an answer"), ["message", bytes]);
    socket.close(3000, "the button");
    assert.deepEqual(await events.next("close"), ["close", 3000, true]);
  });

  suite.test(`pages' sockets, by ${whose}, hear each other and then that the server goes`, "broadcast", async (t) => {
    const server = await t.own();
    const pages = [1, 2, 3].map(() => open(t, `${server.ws}/broadcast`));
    for (const { events } of pages) assert.deepEqual(await events.next("open"), ["open"]);
    for (const [who, { socket }] of pages.entries()) {
      socket.send(`${who}`);
      for (const { events } of pages) assert.deepEqual(await events.next("what one says"), ["message", `${who}`]);
    }
    await server.stop();
    for (const { events } of pages) assert.deepEqual(await events.next("the end"), ["close", 1001, true]);
    const { events } = open(t, `${server.ws}/broadcast`);
    assert.deepEqual(await events.take(2, "the refusal"), [["error"], ["close", 1006, false]]);
  });
}

await mainIf(import.meta, suite);
