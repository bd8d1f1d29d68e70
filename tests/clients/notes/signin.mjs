// The notes' sign-in by a picture: a page shows a code and asks again and again whether somebody has confirmed it with a phone, or whether it
// has expired. And the same without asking, by everything that could be waited with instead.

import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import WebSocket from "ws";
import { Suite, mainIf } from "../lib/suite.mjs";
import { until, within } from "../lib/wait.mjs";

export const suite = new Suite("the sign-in");

// A server that serves one connection at a time gets none that stays open.
const headers = { connection: "close" };

/// Asks for a code: `{ code, topic, expires_in }`.
async function begin({ http }) {
  const answer = await fetch(`${http}/login/codes`, { method: "POST", headers });
  assert.equal(answer.status, 201);
  return answer.json();
}

/// What the phone does: confirms a code with somebody's name. Returns the status.
async function confirm({ http }, code, name) {
  const answer = await fetch(`${http}/login/codes/${code}`, { method: "POST", body: name, headers });
  const body = await answer.text();
  if (answer.status === 200) assert.deepEqual(JSON.parse(body), { confirmed: true });
  return answer.status;
}

const found = ({ event, data }) => [event, JSON.parse(data)];

/// Ways to wait for what becomes of a code. Each returns a promise of the event's name and its data.
const WAYS = {
  polling: (t, { http }, topic) => {
    let timer;
    t.after(() => clearInterval(timer));
    return new Promise((resolve, reject) => {
      timer = setInterval(async () => {
        try {
          const answer = await fetch(`${http}/poll?topic=${topic}&since=0`, { headers });
          const { events } = await answer.json();
          if (events.length) resolve(found(events[0]));
        } catch (error) {
          reject(error);
        }
      }, 10);
    }).finally(() => clearInterval(timer));
  },

  "long polling": async (_, { http }, topic) => {
    for (;;) {
      const answer = await fetch(`${http}/longpoll?topic=${topic}&since=0&timeout=1`);
      if (answer.status === 200) return found((await answer.json()).events[0]);
    }
  },

  "an event stream": (t, { http }, topic) => {
    const source = new EventSource(`${http}/events?topic=${topic}&lastEventId=0`);
    t.after(() => source.close());
    return new Promise((resolve) => {
      for (const name of ["confirmed", "expired"]) {
        source.addEventListener(name, ({ data }) => resolve(found({ event: name, data })));
      }
    });
  },

  "a WebSocket": (t, { ws }, topic) => {
    const socket = new WebSocket(`${ws}/broadcast?topic=${topic}&format=json&since=0`);
    t.after(() => socket.close());
    return new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.on("message", (text) => {
        const message = JSON.parse(text);
        if (message.event) resolve(found(message));
      });
    });
  },
};

const NEEDS = { polling: "poll", "long polling": "long-poll", "an event stream": "event-stream", "a WebSocket": "broadcast" };

for (const [way, wait] of Object.entries(WAYS)) {
  suite.test(`a page that waits by ${way} learns who confirmed`, NEEDS[way], async (t) => {
    const server = await t.server();
    const { code, topic, expires_in } = await begin(server);
    assert.equal(topic, `login:${code}`);
    assert.ok(expires_in > 0);
    const name = "Ånna <b>\"€\"</b> 🦀";
    const outcome = wait(t, server, encodeURIComponent(topic));
    assert.equal(await confirm(server, code, `  ${name}\n`), 200);
    assert.deepEqual(await within(outcome, "the confirmation"), ["confirmed", { name }]);
    assert.equal(await confirm(server, code, "somebody else"), 409, "a code is good for one");
  });

  suite.test(`a page that waits by ${way} learns that the code expired`, NEEDS[way], async (t) => {
    const server = await t.own("--login-expiry", "300ms");
    const { code, topic } = await begin(server);
    assert.deepEqual(await within(wait(t, server, encodeURIComponent(topic)), "the end of the code"), ["expired", {}]);
    assert.equal(await confirm(server, code, "too late"), 410);
  });
}

suite.test("what is no code, no name, or nobody's business", "poll", async (t) => {
  const server = await t.server();
  const { http } = server;
  const [mine, other] = [await begin(server), await begin(server)];
  assert.notEqual(mine.code, other.code);
  assert.equal(await confirm(server, "nobody-has-this", "Teacher"), 404);
  for (const name of ["", "  \n", "two\nlines", "x".repeat(65)]) {
    assert.equal(await confirm(server, mine.code, name), 400, JSON.stringify(name));
  }
  const forged = await fetch(`${http}/publish?topic=${encodeURIComponent(mine.topic)}&event=confirmed`, {
    method: "POST", body: '{"name":"a liar"}', headers,
  });
  await forged.text();
  assert.equal(forged.status, 403, "only the server publishes there");
  const picture = await fetch(`${http}/login/codes/${mine.code}/qr.svg`, { headers });
  assert.equal(picture.status, 200);
  assert.match(picture.headers.get("content-type"), /^image\/svg\+xml/);
  assert.match(await picture.text(), /<svg[^>]*>[^]*<\/svg>\s*$/);
  const { events } = await (await fetch(`${http}/poll?topic=${encodeURIComponent(mine.topic)}&since=0`, { headers })).json();
  assert.deepEqual(events, [], "and nothing of that was told");
  assert.equal(await confirm(server, mine.code, "Teacher"), 200);
  await until(async () => {
    const answer = await fetch(`${http}/poll?topic=${encodeURIComponent(mine.topic)}&since=0`, { headers });
    return (await answer.json()).events.length === 1;
  }, "the confirmation");
});

await mainIf(import.meta, suite);
