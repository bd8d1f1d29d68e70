// `eventsource`: the EventSource of browsers, for Node.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import { cable } from "./lib/cable.mjs";
import { publish } from "./lib/publish.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { Inbox, within } from "./lib/wait.mjs";

export const suite = new Suite("eventsource");

/// An open EventSource with an inbox of `[type, data, id]`, of these types; an id is the event's number before that of the server's run.
async function listen(t, url, types = ["message"]) {
  const source = new EventSource(url);
  t.after(() => source.close());
  source.inbox = new Inbox();
  for (const type of types) source.addEventListener(type, (event) => source.inbox.push([type, event.data, numberOf(event.lastEventId)]));
  await opened(source);
  return source;
}

function numberOf(id) {
  const [, number] = /^([0-9]+)-[0-9a-f]+$/.exec(id) ?? assert.fail(`${id} is no number and run`);
  return number;
}

function opened(source) {
  return within(new Promise((resolve) => source.addEventListener("open", resolve, { once: true })), "an event stream to open");
}

test("events with a name, without one, of several lines", async (t, http) => {
  const topic = t.unique();
  const source = await listen(t, `${http}/events?topic=${topic}`, ["message", "news"]);
  const unnamed = new Inbox();
  source.onmessage = (event) => unnamed.push(event.data);
  await publish(http, t.unique(), "on another topic");
  await publish(http, topic, "plain");
  await publish(http, topic, "named", { event: "news" });
  await publish(http, topic, "one\ntwo\r\nthree\rfour\n\n");
  await publish(http, topic, "");
  await publish(http, topic, " € 🦀: \u2028 data: x");
  await publish(http, topic, new Uint8Array([255, 0, 254]));
  assert.deepEqual(await source.inbox.take(6, "what was published"), [
    ["message", "plain", "1"],
    ["news", "named", "2"],
    ["message", "one\ntwo\nthree\nfour\n\n", "3"],
    ["message", "", "4"],
    ["message", " € 🦀: \u2028 data: x", "5"],
    ["message", Buffer.from([255, 0, 254]).toString("base64"), "6"],
  ]);
  assert.equal((await unnamed.take(5, "unnamed events"))[0], "plain");
});

test("a stream goes on where it was cut off, without loss or repetition", async (t, http, server) => {
  const topic = t.unique();
  const through = await cable(t, server);
  const source = await listen(t, `${through.http}/events?topic=${topic}`);
  const expected = [];
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5; i++) expected.push(await publish(http, topic, `${round}`));
    if (round === 2) break;
    // Which of them have got through already nobody knows.
    through.cut();
    for (let i = 0; i < 5; i++) expected.push(await publish(http, topic, "while it was away"));
    const again = opened(source);
    through.mend();
    await again;
  }
  const seen = await source.inbox.take(expected.length, "all events");
  assert.deepEqual(seen.map(([, , id]) => Number(id)), expected);
  await publish(http, topic, "the end");
  assert.equal((await source.inbox.next("the end"))[1], "the end");
});

test("what is no longer held is told as a gap", async (t, http, server) => {
  const topic = t.unique();
  const through = await cable(t, server);
  const source = await listen(t, `${through.http}/events?topic=${topic}`, ["message", "gap"]);
  await publish(http, topic, "before");
  assert.deepEqual(await source.inbox.next("an event"), ["message", "before", "1"]);
  through.cut();
  // Of these the history of 32 has lost the first eight.
  for (let i = 0; i < 40; i++) await publish(http, topic, `${i}`);
  through.mend();
  const [gap, ...rest] = await source.inbox.take(33, "what is left");
  assert.deepEqual(gap, ["gap", '{"missed":8}', "9"]);
  assert.deepEqual(rest.map(([, data, id]) => [data, id]), [...Array(32).keys()].map((i) => [`${i + 8}`, `${i + 10}`]));
});

test("the ticker ticks", async (t, http) => {
  const source = await listen(t, `${http}/events?topic=tick`);
  const [first, second] = await source.inbox.take(2, "two ticks");
  assert.ok(Number(second[1]) > Number(first[1]) && Math.abs(Date.now() - Number(second[1])) < 60_000);
  assert.equal(Number(second[2]), Number(first[2]) + 1);
});

suite.test("a client comes back to a server that was started again, and gets what is new there", "event-stream", async (t) => {
  const server = await t.own();
  const topic = t.unique();
  const source = await listen(t, `${server.http}/events?topic=${topic}`, ["message", "gap"]);
  for (const data of ["1", "2", "3"]) await publish(server.http, topic, data);
  await source.inbox.take(3, "what was published");
  await server.stop();
  await server.start();
  // Its Last-Event-ID is of the run before, so all of this is new, though it has had more events of that than this one has.
  for (const data of ["new 1", "new 2"]) await publish(server.http, topic, data);
  const restarted = ["gap", '{"missed":0,"restarted":true}', "0"];
  assert.deepEqual(await source.inbox.take(3, "what is new"), [restarted, ["message", "new 1", "1"], ["message", "new 2", "2"]]);
});

suite.test("what is no event stream is not asked again", "event-stream", async (t) => {
  const source = new EventSource(`${(await t.server()).http}/nowhere`);
  t.after(() => source.close());
  const error = await within(new Promise((resolve) => (source.onerror = resolve)), "an error");
  assert.equal(error.code, 404);
  assert.equal(source.readyState, EventSource.CLOSED);
});

/// A case on the shared server.
function test(name, run) {
  suite.test(name, "event-stream", async (t) => {
    const server = await t.server();
    await run(t, server.http, server);
  });
}

await mainIf(import.meta, suite);
