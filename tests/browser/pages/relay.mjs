// A relay before a server that can have bad weather: refuse, be slow, hang up. What passes is not changed.

import { createHash } from "node:crypto";
import http from "node:http";
import { connect } from "node:net";

/// RFC 6455, section 1.3.
const KEY = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `{ http, weather(kind), hangUp() }`. The kinds: `fair`; `refusing`: 503, to be asked again after a second; `slow`: nothing is passed on until the weather changes, and
/// then all of it is; `closing`: a WebSocket is closed with 1013 as soon as it is open. `hangUp` ends what is open.
export async function relay(t, server) {
  let kind = "fair";
  let held = [];
  const open = new Set();

  const ask = (request, response) => {
    const { method, url, headers } = request;
    const far = http.request({ host: "127.0.0.1", port: server.port, method, path: url, headers, agent: false });
    far.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders);
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    far.on("error", () => response.destroy());
    response.on("close", () => far.destroy());
    request.pipe(far);
  };

  const upgrade = (request, near, head) => {
    if (kind === "closing") {
      const accept = createHash("sha1").update(request.headers["sec-websocket-key"] + KEY).digest("base64");
      near.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
      near.end(Buffer.from([0x88, 2, 1013 >> 8, 1013 & 255]));
      return;
    }
    if (kind === "refusing") return near.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    const far = connect(server.port, "127.0.0.1");
    const { method, url, rawHeaders } = request;
    const lines = rawHeaders.map((field, i) => (i % 2 ? `: ${field}\r\n` : field)).join("");
    far.write(`${method} ${url} HTTP/1.1\r\n${lines}\r\n`);
    far.write(head);
    near.pipe(far).pipe(near);
    for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => {}).on("close", () => other.destroy());
  };

  const listener = http.createServer((request, response) => {
    if (kind === "refusing") {
      const body = "Too many people are here at the moment.\n";
      response.writeHead(503, { "Retry-After": "1", "Content-Type": "text/plain", "Content-Length": body.length, Connection: "close" });
      response.end(body);
    } else if (kind === "slow") {
      held.push(() => ask(request, response));
    } else {
      ask(request, response);
    }
  });
  listener.on("upgrade", (request, near, head) => {
    near.on("error", () => {});
    if (kind === "slow") held.push(() => upgrade(request, near, head));
    else upgrade(request, near, head);
  });
  listener.on("connection", (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  await new Promise((resolve) => listener.listen(0, "127.0.0.1", resolve));

  const hangUp = () => open.forEach((socket) => socket.destroy());
  t.after(() => {
    hangUp();
    listener.close();
  });
  const weather = (next) => {
    kind = next;
    if (kind !== "slow") held.splice(0).forEach((pass) => pass());
  };
  return { http: `http://127.0.0.1:${listener.address().port}`, weather, hangUp };
}
