// The notes' ways to ask again and again: on an interval, whether or not the last answer is there; after each answer and a pause; and a long
// poll that asks again in its own callback. With XMLHttpRequest as a page has it.

import assert from "node:assert/strict";
import xhr from "xmlhttprequest-ssl";
import { publish } from "../lib/publish.mjs";
import { Suite, mainIf } from "../lib/suite.mjs";
import { Inbox, until } from "../lib/wait.mjs";

export const suite = new Suite("polling pages");

const { XMLHttpRequest } = xhr;

/// Asks, and calls back with the status and what came. Each request has a connection of its own, which ends with the answer.
function get(url, callback) {
  const request = new XMLHttpRequest();
  request.open("GET", url, true);
  request.onreadystatechange = () => {
    if (request.readyState === 4) callback(request.status, request.responseText);
  };
  request.send();
}

// A server that serves one connection at a time gets none that stays open.
const say = (http, topic, text) => publish(http, topic, text, { headers: { connection: "close" } });

const COUNT = 12;
const ALL = Array.from({ length: COUNT }, (_, i) => [i + 1, `${i + 1}`]);

suite.test("on an interval, with answers that overtake each other: what came twice is known by its id", "poll", async (t) => {
  const { http } = await t.server();
  const topic = t.unique();
  const shown = new Map();
  let [newest, underWay, mostUnderWay, arrived] = [0, 0, 0, 0];
  const ask = () => {
    mostUnderWay = Math.max(mostUnderWay, ++underWay);
    get(`${http}/poll?topic=${topic}&since=${newest}`, (status, text) => {
      underWay--;
      if (status !== 200) return;
      for (const { id, data } of JSON.parse(text).events) {
        arrived++;
        shown.set(id, data);
        newest = Math.max(newest, id);
      }
    });
  };
  // Two at a time, whatever the machine does: the second goes out before the first can be answered.
  const timer = setInterval(() => [ask(), ask()], 5);
  t.after(() => clearInterval(timer));
  for (let i = 1; i <= COUNT; i++) await say(http, topic, `${i}`);
  await until(() => newest === COUNT, "the last event");
  clearInterval(timer);
  await until(() => underWay === 0, "the last answer");
  assert.deepEqual([...shown].sort(([a], [b]) => a - b), ALL);
  assert.ok(mostUnderWay >= 2 && arrived > COUNT, `${arrived} events came, ${mostUnderWay} requests overlapped`);
});

suite.test("after each answer and a pause, nothing comes twice", "poll", async (t) => {
  const { http } = await t.server();
  const topic = t.unique();
  const shown = new Inbox();
  let goesOn = true;
  t.after(() => (goesOn = false));
  const poll = (since) => {
    setTimeout(() => {
      get(`${http}/poll?topic=${topic}&since=${since}`, (status, text) => {
        const events = status === 200 ? JSON.parse(text).events : [];
        events.forEach(({ id, data }) => shown.push([id, data]));
        if (goesOn) poll(events.at(-1)?.id ?? since);
      });
    }, 5);
  };
  poll(0);
  for (let i = 1; i <= COUNT; i++) await say(http, topic, `${i}`);
  assert.deepEqual(await shown.take(COUNT, "all events"), ALL);
});

suite.test("a loop of polls goes on when the server is started again", "poll", async (t) => {
  const server = await t.own();
  const topic = t.unique();
  const [shown, failures] = [new Inbox(), new Inbox()];
  let goesOn = true;
  t.after(() => (goesOn = false));
  const poll = () => {
    get(`${server.http}/poll?topic=${topic}&since=0`, (status, text) => {
      if (status === 200) JSON.parse(text).events.forEach(({ data }) => shown.push(data));
      else failures.push(status);
      if (goesOn) setTimeout(poll, 5);
    });
  };
  poll();
  await say(server.http, topic, "before");
  assert.equal(await shown.next("an event"), "before");
  await server.stop();
  assert.equal(await failures.next("a refusal"), 0, "the status of what was never answered");
  shown.drain();
  await server.start();
  await say(server.http, topic, "after");
  assert.equal(await shown.next("an event of the new server"), "after");
});

suite.test("a long poll asks again in its callback: each event as soon as it is there, and time that runs out is no event", "long-poll", async (t) => {
  const { http } = await t.server();
  const topic = t.unique();
  const shown = new Inbox();
  const statuses = new Inbox();
  let goesOn = true;
  t.after(async () => {
    goesOn = false;
    await statuses.next("the last answer");
  });
  const send = (since) => {
    get(`${http}/longpoll?topic=${topic}&since=${since}&timeout=0.1`, (status, text) => {
      statuses.push(status);
      const events = status === 200 ? JSON.parse(text).events : [];
      events.forEach(({ id, data }) => shown.push([id, data]));
      if (goesOn) send(events.at(-1)?.id ?? since);
    });
  };
  send(0);
  assert.deepEqual(await statuses.take(2, "two polls that find nothing"), [204, 204]);
  for (let i = 1; i <= COUNT; i++) {
    await say(http, topic, `${i}`);
    assert.deepEqual(await shown.next("the event, before the next is said"), ALL[i - 1]);
  }
});

await mainIf(import.meta, suite);
