// `undici`: the HTTP client that Node's own fetch is made of, with its own connections, kept alive and pipelined. It reads answers with
// llhttp, which shares nothing with what the server reads requests with.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { Client, fetch } from "undici";
import { publish } from "./lib/publish.mjs";
import { Suite, mainIf } from "./lib/suite.mjs";
import { within } from "./lib/wait.mjs";

export const suite = new Suite("undici");

/// A case with a client of one connection, and with `get(path, options)`: a fetch on it.
function test(name, needs, run) {
  suite.test(name, needs, async (t) => {
    const server = await t.server();
    const connections = { count: 0 };
    const dispatcher = new Client(server.http);
    dispatcher.on("connect", () => connections.count++);
    t.after(() => dispatcher.destroy());
    const get = (path, options) =>
      within(fetch(server.http + path, { dispatcher, ...options }), `an answer to ${options?.method ?? "GET"} ${path}`);
    await run(t, get, server, connections);
  });
}

test("one connection for everything that answers", "http poll", async (t, get, _, connections) => {
  const topic = t.unique();
  const page = await get("/");
  assert.equal(page.status, 200);
  assert.match(page.headers.get("content-type"), /^text\/html/);
  const length = (await page.arrayBuffer()).byteLength;
  const head = await get("/", { method: "HEAD" });
  assert.equal(Number(head.headers.get("content-length")), length);
  assert.equal(await head.text(), "");
  const posted = await get(`/publish?topic=${topic}`, { method: "POST", body: "with a length" });
  assert.equal(posted.status, 202);
  assert.deepEqual(await posted.json(), { id: 1 });
  const pieces = Readable.toWeb(Readable.from(["in ", "", "pieces, ", "x".repeat(100_000)].map((piece) => Buffer.from(piece))));
  const chunked = await get(`/publish?topic=${topic}&event=${encodeURIComponent("€ &=")}`, { method: "POST", body: pieces, duplex: "half" });
  assert.deepEqual(await chunked.json(), { id: 2 });
  const bytes = Buffer.from([0, 255, 10, 13]);
  const binary = { "content-type": "application/octet-stream" };
  assert.deepEqual(await (await get(`/publish?topic=${topic}`, { method: "POST", body: bytes, headers: binary })).json(), { id: 3 });
  const poll = await get(`/poll?topic=${topic}&since=0`);
  const { epoch, ...answer } = await poll.json();
  assert.match(epoch, /^[0-9a-f]+$/);
  assert.deepEqual(answer, {
    topic,
    newest: 3,
    events: [
      { id: 1, event: "message", data: "with a length" },
      { id: 2, event: "€ &=", data: `in pieces, ${"x".repeat(100_000)}` },
      { id: 3, event: "message", base64: bytes.toString("base64") },
    ],
  });
  assert.deepEqual(await (await get(`/poll?topic=${topic}`)).json(), { topic, newest: 3, epoch, events: [] });
  const etag = poll.headers.get("etag");
  const same = await get(`/poll?topic=${topic}&since=0`, { headers: { "if-none-match": `"other", ${etag}` } });
  assert.equal(same.status, 304);
  assert.equal(same.headers.get("etag"), etag);
  await (await get(`/publish?topic=${topic}`, { method: "POST", body: "news" })).text();
  const news = await get(`/poll?topic=${topic}&since=0`, { headers: { "if-none-match": etag } });
  assert.equal((await news.json()).newest, 4);
  for (const [path, method, status, allow] of [
    ["/publish", "GET", 405, "POST, OPTIONS"],
    ["/poll", "POST", 405, "GET, HEAD, OPTIONS"],
    ["/", "DELETE", 405, "GET, HEAD, OPTIONS"],
    ["/poll", "OPTIONS", 204, "GET, HEAD, OPTIONS"],
    ["/nowhere", "GET", 404, null],
    ["/poll?since=soon", "GET", 400, null],
    ["/echo", "GET", 426, null],
  ]) {
    const answer = await get(path, { method });
    assert.deepEqual([answer.status, answer.headers.get("allow")], [status, allow], `${method} ${path}`);
    await answer.text();
  }
  // After HEAD it is this client that hangs up: it does not trust servers to send no body.
  assert.equal(connections.count, 2);
});

suite.test("a pipeline is answered in order", "http poll", async (t) => {
  const { http } = await t.server();
  const topic = t.unique();
  for (let i = 1; i <= 20; i++) await publish(http, topic, `${i}`, { headers: { connection: "close" } });
  const client = new Client(http, { pipelining: 20 });
  t.after(() => client.destroy());
  let connections = 0;
  client.on("connect", () => connections++);
  const ask = async (since) => {
    const method = since % 3 ? "GET" : "HEAD";
    const { body, statusCode } = await client.request({ path: `/poll?topic=${topic}&since=${since}`, method, reset: false });
    return [statusCode, await body.text()];
  };
  const answers = await within(Promise.all([...Array(200).keys()].map((i) => ask(i % 20))), "200 answers");
  answers.forEach(([status, text], i) => {
    assert.equal(status, 200);
    if ((i % 20) % 3 === 0) return assert.equal(text, "");
    const { newest, events } = JSON.parse(text);
    assert.deepEqual([newest, events.length], [20, 20 - (i % 20)]);
  });
  assert.equal(connections, 1);
});

test("a long poll is answered as soon as there is something", "long-poll", async (t, get, { http }, connections) => {
  const topic = t.unique();
  const waiting = get(`/longpoll?topic=${topic}&since=0&timeout=60`);
  // Whether it comes before or after the poll, it is the answer.
  await publish(http, topic, "first", { event: "news" });
  const { epoch, ...answer } = await (await waiting).json();
  assert.deepEqual(answer, { topic, newest: 1, events: [{ id: 1, event: "news", data: "first" }] });
  const nothing = await get(`/longpoll?topic=${topic}&since=1-${epoch}&timeout=0.05`);
  assert.deepEqual([nothing.status, await nothing.text()], [204, ""]);
  assert.equal(connections.count, 1);
  const aborter = new AbortController();
  const aborted = get(`/longpoll?topic=${topic}&since=1`, { signal: aborter.signal });
  setTimeout(() => aborter.abort(), 20);
  await assert.rejects(aborted, { name: "AbortError" });
  // The next is on a new connection, and the one that was given up takes nothing from it.
  const next = get(`/longpoll?topic=${topic}&since=1`);
  await publish(http, topic, "second");
  assert.equal((await (await next).json()).events[0].data, "second");
});

test("a loop of long polls misses nothing and gets nothing twice", "long-poll", async (t, get, { http }) => {
  const topic = t.unique();
  const COUNT = 30;
  const published = (async () => {
    for (let i = 1; i <= COUNT; i++) await publish(http, topic, `${i}`);
  })();
  const seen = [];
  while (seen.length < COUNT) {
    const answer = await get(`/longpoll?topic=${topic}&since=${seen.length}&timeout=5`);
    if (answer.status === 200) seen.push(...(await answer.json()).events);
  }
  await published;
  assert.deepEqual(seen.map(({ id, data }) => [id, data]), [...Array(COUNT).keys()].map((i) => [i + 1, `${i + 1}`]));
});

test("pages of other origins are told what they may", "http poll", async (t, get) => {
  const preflight = (origin) =>
    get("/publish", {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" },
    });
  const friend = await preflight("https://page.example");
  assert.equal(friend.status, 204);
  assert.equal(friend.headers.get("access-control-allow-origin"), "https://page.example");
  assert.match(friend.headers.get("access-control-allow-methods"), /POST/);
  assert.match(friend.headers.get("access-control-allow-headers"), /content-type/i);
  assert.equal(friend.headers.get("vary"), "Origin");
  const stranger = await preflight("https://other.example");
  assert.equal(stranger.status, 403);
  assert.equal(stranger.headers.get("access-control-allow-origin"), null);
  await stranger.text();
  const answer = await get("/poll", { headers: { origin: "https://page.example" } });
  assert.equal(answer.headers.get("access-control-allow-origin"), "https://page.example");
  await answer.text();
});

test("an event stream can be read as it comes, heartbeats and all", "event-stream", async (t, get, { http }) => {
  const topic = t.unique();
  const stream = await get(`/events?topic=${topic}`);
  assert.match(stream.headers.get("content-type"), /^text\/event-stream/);
  assert.equal(stream.headers.get("cache-control"), "no-cache");
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const expect = async (part) => {
    while (!text.includes(part)) text += (await within(reader.read(), JSON.stringify(part))).value;
    text = text.slice(text.indexOf(part) + part.length);
  };
  await expect("retry: 1000\n\n");
  await expect(": ");
  await publish(http, topic, "a\nb", { event: "news" });
  await expect("id: 1-");
  await expect("\nevent: news\ndata: a\ndata: b\n\n");
  await expect(": ");
  await reader.cancel();
});

await mainIf(import.meta, suite);
