// What the pages hear by is JavaScript that needs no page. Here it runs in Node, with what a browser has and Node has not; the pages themselves are in ../browser.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { io } from "socket.io-client";
import { connect } from "./lib/socketio.mjs";
import { publish } from "./lib/publish.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, until } from "./lib/wait.mjs";

export const suite = new Suite("pages");

const ASSETS = fileURLToPath(new URL("../../crates/pages/web/assets/", import.meta.url));

/// mechanisms.js as the page of `http` has it. Node takes a file for a module where a package.json says so.
async function mechanisms(t, http) {
  const folder = await mkdtemp(join(tmpdir(), "pages-"));
  t.after(() => rm(folder, { recursive: true }));
  await cp(ASSETS, folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{"type":"module"}');
  const ask = globalThis.fetch;
  const script = () => ({});
  Object.assign(globalThis, {
    location: { href: `${http}/` },
    fetch: (url, init) => ask(new URL(url, http), init),
    EventSource: Source,
    document: { createElement: script, head: { append: (element) => queueMicrotask(() => element.onload()) } },
    io: (options) => io(http, options),
  });
  t.after(() => Object.assign(globalThis, { fetch: ask }));
  return import(pathToFileURL(join(folder, "mechanisms.js")));
}

/// An EventSource whose stream is what a case dispatches. As in a browser, an event of the stream is dispatched by its name, whatever that is.
class Source extends EventTarget {
  static all = [];

  constructor(url) {
    super();
    this.url = url;
    for (const type of ["open", "error"]) this.addEventListener(type, (event) => this[`on${type}`]?.(event));
    Source.all.push(this);
  }

  send(type, data, lastEventId) {
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId }));
  }

  close() {
    this.isClosed = true;
  }
}

/// A subscription with an inbox of its events; `phases` are its states in order.
function listen(t, { subscribe }, by, options) {
  const heard = new Inbox();
  const phases = [];
  const onEvent = ({ id, event, data }) => heard.push([id, event, data]);
  const onState = ({ phase }) => phases.at(-1) !== phase && phases.push(phase);
  const link = subscribe(by, { ...options, onEvent, onState });
  t.after(() => link.close());
  return { heard, phases, link };
}

suite.test("what others publish and pass on is not taken for the connection's own", "event-stream socket-io", async (t) => {
  const { http } = await t.server("pages");
  const page = await mechanisms(t, http);
  const topic = t.unique();

  const stream = listen(t, page, "sse", { topic });
  await until(() => Source.all.length === 1, "an event stream");
  const [source] = Source.all;
  source.dispatchEvent(new Event("open"));
  source.send("error", "x", "1-a");
  source.send("open", "x", "2-a");
  source.send("message", "real", "3-a");
  assert.deepEqual(await stream.heard.next("the event"), [3, "message", "real"]);
  assert.deepEqual([stream.phases, source.isClosed, Source.all.length], [["connecting", "live"], undefined, 1]);
  source.dispatchEvent(new Event("error"));
  await until(() => stream.phases.includes("waiting"), "the end of the stream");

  const room = listen(t, page, "socketio", { topic });
  await until(() => room.phases.includes("live"), "Socket.IO");
  const stranger = await connect(t, http, ["websocket"]);
  // The next event of the topic, as somebody would have it who has not published it.
  for (const event of ["to-others", "to-all", "chat message - client"]) stranger.emit(event, "forged", { topic, id: 1 });
  assert.equal(await stranger.timeout(20_000).emitWithAck("message-with-ack", "said"), "said");
  await publish(http, topic, "real", { event: "news" });
  await publish(http, topic, "too", { event: "chat message - server" });
  assert.deepEqual(await room.heard.take(2, "what was published"), [[1, "news", "real"], [2, "chat message - server", "too"]]);
  assert.deepEqual(room.phases, ["connecting", "live"]);
}, { once: true });

await mainIf(import.meta, suite);
