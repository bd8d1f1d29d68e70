// `node:http` as a judge: it reads every kind of answer with llhttp in its strict mode, and whatever breaks a rule of the grammar, comes
// after the end of an answer, or is missing at its end, is an error. What no client would send is written by hand; the answer is read all
// the same.

import assert from "node:assert/strict";
import http from "node:http";
import net from "node:net";
import { Suite, mainIf } from "./lib/suite.mjs";
import { until, within } from "./lib/wait.mjs";

export const suite = new Suite("node:http");

const KEY = { "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==", "sec-websocket-version": "13" };

/// Sends a request and reads the answer to its end.
function ask(server, path, { method = "GET", headers = {}, body = "", ...options } = {}) {
  const answer = new Promise((resolve, reject) => {
    const request = http.request(server.http + path, { agent: false, method, headers, insecureHTTPParser: false, ...options });
    const interim = [];
    request.on("information", ({ statusCode }) => interim.push(statusCode));
    request.on("continue", () => request.end(body));
    request.on("error", reject);
    request.on("upgrade", (answer, socket) => {
      socket.destroy();
      resolve({ status: answer.statusCode, headers: answer.headers, interim });
    });
    request.on("response", (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece) => (text += piece));
      answer.on("error", reject).on("end", () => {
        assert.ok(answer.complete, "the answer has its end");
        resolve({ status: answer.statusCode, headers: answer.headers, reused: request.reusedSocket, text, interim });
      });
    });
    // Who asks whether a body is wanted waits for the answer.
    if (headers.expect) request.flushHeaders();
    else request.end(body);
  });
  return within(answer, `an answer to ${method} ${path}`);
}

/// The answer to these bytes, in place of a request; `\n` stands for the ends of lines.
function askRaw(server, text) {
  const createConnection = () => {
    const socket = net.connect(server.port, "127.0.0.1");
    // What Node would have sent is replaced by what is asked for, once.
    const write = socket.write.bind(socket);
    let bytes = text.replaceAll("\n", "\r\n");
    socket.write = (_data, ...rest) => {
      const [now] = [bytes, (bytes = "")];
      return write(now, ...rest.filter((argument) => typeof argument === "function"));
    };
    return socket;
  };
  return ask(server, "/", { createConnection, agent: undefined });
}

const expect = (answer, status, headers = {}) => {
  assert.equal(answer.status, status);
  for (const [name, value] of Object.entries(headers)) assert.equal(answer.headers[name], value, name);
};

suite.test("each kind of answer, one after the other on one connection", "http poll", async (t) => {
  const server = await t.server();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const topic = t.unique();
  const etag = (await ask(server, `/poll?topic=${topic}`, { agent })).headers.etag;
  for (const [method, path, status, options] of [
    ["GET", "/", 200],
    ["HEAD", "/", 200],
    ["GET", `/poll?topic=${topic}`, 304, { headers: { "if-none-match": etag } }],
    ["POST", `/publish?topic=${topic}`, 202, { body: "text" }],
    ["POST", `/publish?topic=${topic}`, 202, { body: "in pieces", headers: { "transfer-encoding": "chunked" } }],
    ["GET", `/poll?topic=${topic}&since=0`, 200],
    ["HEAD", `/poll?topic=${topic}&since=0`, 200],
    ["OPTIONS", "/poll", 204],
    ["PUT", "/poll", 405, { body: "ignored" }],
    ["GET", "/poll?topic=", 400],
    ["GET", "/nowhere", 404],
    ["GET", "/echo", 426],
    ["POST", "/socket.io/?EIO=4&transport=polling", 400],
    ["GET", "/socket.io/?EIO=4&transport=polling&sid=nobody", 400],
    ["OPTIONS", "/publish", 403, { headers: { origin: "https://other.example", "access-control-request-method": "POST" } }],
  ]) {
    const answer = await ask(server, path, { method, agent, ...options });
    assert.equal(answer.status, status, `${method} ${path}`);
    assert.ok(answer.reused, `${method} ${path} goes on with the connection`);
    if (method === "HEAD" || status === 204 || status === 304) assert.equal(answer.text, "");
    else assert.equal(Number(answer.headers["content-length"]), Buffer.byteLength(answer.text));
  }
});

suite.test("answers behind which the connection ends", "http poll", async (t) => {
  const server = await t.server();
  const close = { connection: "close" };
  expect(await ask(server, "/", { headers: close }), 200, close);
  expect(await ask(server, "/publish", { method: "POST", body: "x".repeat((2 << 20) + 1) }), 413, close);
  expect(await askRaw(server, "GET / HTTP/1.0\n\n"), 200, close);
  expect(await askRaw(server, "no request at all\n\n"), 400, close);
  expect(await askRaw(server, `GET /${"x".repeat(100_000)} HTTP/1.1\nHost: h\n\n`), 431, close);
  const post = "POST /publish HTTP/1.1\nHost: h\n";
  expect(await askRaw(server, `${post}Content-Length: 1\nContent-Length: 2\n\nxx`), 400, close);
  expect(await askRaw(server, `${post}Content-Length: 1\nTransfer-Encoding: chunked\n\n0\n\n`), 400, close);
  expect(await askRaw(server, `${post}Transfer-Encoding: gzip\n\n`), 501, close);
  expect(await askRaw(server, `${post}Transfer-Encoding: chunked\n\nno size\n`), 400, close);
  expect(await askRaw(server, "GET / HTTP/1.1\n\n"), 400, close);
});

suite.test("interim answers, and an answer to an expectation that nobody can meet", "http poll", async (t) => {
  const server = await t.server();
  const post = (headers) => ask(server, `/publish?topic=${t.unique()}`, { method: "POST", headers, body: "body" });
  const continued = await post({ expect: "100-continue", "content-length": 4 });
  expect(continued, 202);
  assert.deepEqual(continued.interim, [100]);
  expect(await post({ expect: "a miracle" }), 417);
});

suite.test("what becomes a WebSocket", "http echo", async (t) => {
  const server = await t.server();
  const upgrade = { connection: "upgrade", upgrade: "websocket", ...KEY };
  expect(await ask(server, "/echo", { headers: upgrade }), 101, { "sec-websocket-accept": "ICX+Yqv66kxgM0FcWaLWlFLwTAI=" });
  expect(await ask(server, "/echo", { headers: { ...upgrade, "sec-websocket-version": "8" } }), 426, { "sec-websocket-version": "13" });
  expect(await ask(server, "/echo", { headers: { ...upgrade, "sec-websocket-key": "short" } }), 400);
  expect(await ask(server, "/echo", { headers: { ...upgrade, origin: "https://other.example" } }), 403);
  expect(await ask(server, "/echo"), 426, { upgrade: "websocket" });
});

suite.test("a long poll that ends with nothing, Socket.IO's answers", "long-poll socket-io", async (t) => {
  const server = await t.server();
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  expect(await ask(server, `/longpoll?topic=${t.unique()}&since=0&timeout=0.01`, { agent }), 204);
  const opened = await ask(server, "/engine.io/?EIO=4&transport=polling", { agent });
  const { sid } = JSON.parse(opened.text.slice(1));
  const path = `/engine.io/?EIO=4&transport=polling&sid=${sid}`;
  expect(await ask(server, path, { method: "POST", body: "4hello", agent }), 200);
  const echo = await ask(server, path, { agent });
  assert.ok(echo.reused && echo.text.split("\x1e").includes("4hello"), echo.text);
  expect(await ask(server, path, { method: "POST", body: "x".repeat(1_000_001), agent }), 413);
  expect(await ask(server, path, { method: "DELETE" }), 400);
});

suite.test("an event stream, which has no end until the server's", "event-stream", async (t) => {
  const server = await t.own();
  const stream = ask(server, "/events?topic=tick&since=0");
  expect(await ask(server, "/events", { method: "HEAD" }), 200, { "content-type": "text/event-stream" });
  expect(await ask(server, "/longpoll?topic=tick&since=0"), 200);
  // Whatever it is in the midst of, it is told.
  const waiting = ask(server, "/longpoll?topic=nothing&since=0");
  // Connections that were made later have been served by now, by whichever worker, so that one is waiting.
  for (let i = 0; i < 20; i++) expect(await ask(server, "/longpoll?topic=later&since=0&timeout=0"), 204);
  await server.stop();
  expect(await stream, 200, { "content-type": "text/event-stream" });
  expect(await waiting, 503, { connection: "close", "retry-after": "1" });
});

suite.test("limits on topics, on sessions, on time", "http poll event-stream together", async (t) => {
  const server = await t.server("tight");
  const post = (topic) => ask(server, `/publish?topic=${topic}`, { method: "POST", body: "x" });
  for (const topic of ["one", "two"]) {
    const stream = http.get(`${server.http}/events?topic=${topic}`, { agent: false }).on("error", () => {});
    t.after(() => stream.destroy());
  }
  // A topic without subscribers makes room for another; these two have one each as soon as their streams are open.
  let count = 0;
  const refused = await until(async () => {
    for (const topic of ["one", "two"]) await post(topic);
    const answer = await post(`another-${count++}`);
    return answer.status === 503 && answer;
  }, "a topic too many");
  expect(refused, 503, { "switchboard-refused": "topics" });
  expect(await askRaw(server, "GET / HTTP/1.1\nHost: slow"), 408, { connection: "close" });
  expect(await askRaw(server, "POST /publish HTTP/1.1\nHost: slow\nContent-Length: 5\n\nfour"), 408, { connection: "close" });
});

suite.test("one session too many", "socket-io", async (t) => {
  const server = await t.server("tight");
  expect(await ask(server, "/engine.io/?EIO=4&transport=polling"), 200);
  const full = await ask(server, "/engine.io/?EIO=4&transport=polling");
  expect(full, 503, { "content-type": "application/json" });
  assert.equal(JSON.parse(full.text).code, 4);
});

await mainIf(import.meta, suite);
