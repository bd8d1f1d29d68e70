// `engine.io-client`: bare Engine.IO, which returns every message.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Socket } from "engine.io-client";
import { TRANSPORTS } from "./lib/socketio.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, once } from "./lib/wait.mjs";

export const suite = new Suite("engine.io-client");

for (const [way, transports] of Object.entries(TRANSPORTS)) {
  suite.test(`${way}: every message comes back, text and binary`, "socket-io", async (t) => {
    const socket = new Socket((await t.server()).http, { transports });
    t.after(() => socket.close());
    const inbox = new Inbox();
    // The client does not tell a message without data from none.
    socket.on("message", (data) => inbox.push(data ?? ""));
    const upgraded = once(socket, "open").then(() => (transports.length > 1 ? once(socket, "upgrade") : undefined));
    const messages = ["", "€ 🦀", randomBytes(1000), "x".repeat(100_000), randomBytes(100_000), ...Array(100).fill("again")];
    await once(socket, "handshake");
    for (const message of messages) socket.send(message);
    for (const message of messages) assert.deepEqual(await inbox.next("an echo"), message);
    await upgraded;
    socket.send("after all that");
    assert.equal(await inbox.next("an echo"), "after all that");
    const closed = once(socket, "close");
    socket.close();
    assert.equal((await closed)[0], "forced close");
  });
}

suite.test("sessions that are not there, and one that asks for the wrong version", "socket-io", async (t) => {
  const { http } = await t.server();
  for (const path of ["/engine.io/", "/socket.io/"]) {
    for (const [query, code] of [
      ["EIO=4&transport=polling&sid=nobody", 1],
      ["EIO=4&transport=carrier-pigeon", 0],
      ["EIO=3&transport=polling", 5],
      ["EIO=4&transport=websocket", 3],
    ]) {
      const answer = await fetch(`${http}${path}?${query}`);
      assert.equal(answer.status, 400);
      assert.equal((await answer.json()).code, code, query);
    }
  }
});

await mainIf(import.meta, suite);
