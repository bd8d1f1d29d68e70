// The notes' page of events: unnamed ones, some with a name, one source that connects again by itself. By two implementations of EventSource
// that have nothing in common.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import { EventSource as BrowserEventSource } from "undici";
import { cable } from "../lib/cable.mjs";
import { publish } from "../lib/publish.mjs";
import { Suite, mainIf } from "../lib/suite.mjs";
import { Inbox, until } from "../lib/wait.mjs";

export const suite = new Suite("the events page");

for (const [whose, Implementation] of [["`eventsource`", EventSource], ["undici", BrowserEventSource]]) {
  /// The page: all that its handlers are told, in order.
  const page = (t, url, names) => {
    const source = new Implementation(url);
    t.after(() => source.close());
    const seen = new Inbox();
    source.onopen = () => seen.push(["open"]);
    source.onerror = () => seen.push(["error", source.readyState]);
    source.onmessage = ({ data, lastEventId }) => seen.push(["unnamed", data, Number.parseInt(lastEventId)]);
    for (const name of names) {
      source.addEventListener(name, ({ data, lastEventId }) => seen.push([name, JSON.parse(data), Number.parseInt(lastEventId)]));
    }
    return { source, seen };
  };
  const test = (name, run) => suite.test(`${name}, by ${whose}`, "event-stream", run);

  test("events with and without a name, and the comments between them are not seen", async (t) => {
    const { http } = await t.server();
    const topic = t.unique();
    const { source, seen } = page(t, `${http}/events?topic=${topic}`, ["users"]);
    assert.deepEqual(await seen.next("open"), ["open"]);
    const users = [{ name: "Teacher", age: 9 }, { name: "Student\n" }];
    await publish(http, topic, "no name");
    await publish(http, topic, JSON.stringify(users), { event: "users" });
    await publish(http, topic, "nobody listens to this", { event: "other" });
    assert.deepEqual(await seen.take(2, "the events"), [["unnamed", "no name", 1], ["users", users, 2]]);
    // Comments keep a silent stream alive: this server sends one five times a second, and none reaches the page.
    const raw = await fetch(`${http}/events?topic=${topic}`);
    const reader = raw.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    await until(async () => (text += (await reader.read()).value).split("\n").filter((line) => line.startsWith(":")).length >= 2, "two comments");
    await reader.cancel();
    await publish(http, topic, "the end");
    assert.deepEqual(await seen.next("the end"), ["unnamed", "the end", 4]);
    assert.equal(source.readyState, Implementation.OPEN);
  });

  test("a stream that breaks is an error, and then goes on behind the last id", async (t) => {
    const server = await t.server();
    const topic = t.unique();
    const through = await cable(t, server);
    const { seen } = page(t, `${through.http}/events?topic=${topic}`, []);
    assert.deepEqual(await seen.next("open"), ["open"]);
    await publish(server.http, topic, "before");
    assert.deepEqual(await seen.next("an event"), ["unnamed", "before", 1]);
    through.hangUp();
    assert.deepEqual(await seen.next("the error"), ["error", Implementation.CONNECTING]);
    await publish(server.http, topic, "meanwhile");
    assert.deepEqual(await seen.next("open, by itself"), ["open"]);
    await publish(server.http, topic, "after");
    assert.deepEqual(await seen.take(2, "what it missed"), [["unnamed", "meanwhile", 2], ["unnamed", "after", 3]]);
  });

  test("a server that goes and comes is found again, and a closed page is not told anything", async (t) => {
    const server = await t.own();
    const topic = t.unique();
    const { source, seen } = page(t, `${server.http}/events?topic=${topic}`, []);
    assert.deepEqual(await seen.next("open"), ["open"]);
    await publish(server.http, topic, "old");
    assert.deepEqual(await seen.next("an event"), ["unnamed", "old", 1]);
    await server.stop();
    assert.deepEqual(await seen.next("the error"), ["error", Implementation.CONNECTING]);
    await server.start();
    await publish(server.http, topic, "new");
    // That one has the same number as the one before, and is another all the same. How often the page is refused meanwhile depends on how long the server takes.
    let next;
    do next = await seen.next("open, by itself");
    while (next[0] === "error");
    assert.deepEqual(next, ["open"]);
    assert.deepEqual(await seen.next("what is new"), ["unnamed", "new", 1]);
    source.close();
    assert.equal(source.readyState, Implementation.CLOSED);
    await publish(server.http, topic, "to nobody");
    await server.stop();
    await new Promise(setImmediate);
    assert.deepEqual(seen.drain(), []);
  });
}

await mainIf(import.meta, suite);
