// The first page in a browser: one event, heard in five ways.

import assert from "node:assert/strict";
import { publish } from "../../clients/lib/publish.mjs";
import { Suite } from "../../clients/lib/suite.mjs";
import { until } from "../../clients/lib/wait.mjs";
import { fits, phase, shoot, tab, textOf } from "./tab.mjs";

export const suite = new Suite("the first page");

const ALL = "broadcast poll long-poll event-stream socket-io";
const MECHANISMS = ["poll", "longpoll", "sse", "websocket", "socketio"];

/// A page on which all that is served is connected.
async function open(t, server, options) {
  const page = await tab(t, `${server.http}/`, options);
  await live(page);
  return page;
}

async function live(page) {
  const rows = (phase) => page.locator(`[data-mechanism][data-phase="${phase}"]`).count();
  await until(async () => (await rows("live")) + (await rows("absent")) === MECHANISMS.length, "all mechanisms to be connected");
}

/// The figures of a row, as numbers.
async function row(page, mechanism) {
  const element = page.locator(`[data-mechanism="${mechanism}"]`);
  const figure = async (testid) => Number((await element.getByTestId(testid).textContent()).replace(/[, ]|ms/g, ""));
  return { events: await figure("events"), requests: await figure("requests"), empty: await figure("empty"), bytes: await figure("bytes"), age: await figure("age") };
}

const count = async (page, events, what) => {
  for (const mechanism of MECHANISMS) {
    let seen;
    await until(async () => (seen = (await row(page, mechanism)).events) >= events, `${mechanism} to count ${events}, ${what}`);
    assert.equal(seen, events, `${mechanism}, ${what}`);
  }
};

suite.test("all five mechanisms count the same events, whoever publishes them", ALL, async (t) => {
  // It ticks, but not before this is over.
  const server = await t.bare("--tick", "1h");
  const page = await open(t, server);
  assert.match(await textOf(page, "model"), new RegExp(`: ${t.model}$`));
  const before = (await row(page, "poll")).events;
  for (const [i, by] of ["post", "websocket", "socketio"].entries()) {
    await page.getByTestId("say").locator(`button[value="${by}"]`).click();
    await count(page, before + i + 1, `one published by ${by}`);
  }
  await publish(server.http, "tick", String(Date.now()));
  await count(page, before + 4, "one published from elsewhere");
  for (const mechanism of MECHANISMS) {
    const { requests, bytes, age } = await row(page, mechanism);
    assert.ok(requests >= 1 && bytes > 0 && age >= 0, `${mechanism}: ${requests} requests, ${bytes} bytes, ${age} ms`);
  }
  const [poll, longpoll, sse] = await Promise.all(["poll", "longpoll", "sse"].map((mechanism) => row(page, mechanism)));
  assert.equal(sse.requests, 1, "a stream is one request");
  assert.ok(longpoll.requests >= 5, "a long poll is one for each event");
  await until(async () => (await row(page, "poll")).empty > poll.empty, "another poll in vain");
});

suite.test("a ticking server; the page says what it is, and fits on any screen", ALL, async (t) => {
  const server = await t.bare("--tick", "100ms");
  const page = await open(t, server);
  for (const mechanism of MECHANISMS) await until(async () => (await row(page, mechanism)).events >= 5, `${mechanism} to hear five ticks`);
  await phase(page, "live");
  assert.match(await textOf(page, "status"), /ticks every 0\.1 s/);
  assert.match(await textOf(page, "about"), new RegExp(t.model));
  const painted = await page.getByTestId("lanes").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
  assert.ok(painted > 10, `the picture has ${painted} colours`);
  await fits(page, "the first page");
  await shoot(t, page, "home");
});

suite.test("without a tick of the server's the page publishes one itself", ALL, async (t) => {
  const server = await t.bare();
  const page = await open(t, server);
  for (const mechanism of MECHANISMS) await until(async () => (await row(page, mechanism)).events >= 2, `${mechanism} to hear two ticks`);
  assert.ok(await page.getByTestId("publish").isChecked());
}, { once: true });

suite.test("a server that is started again is found by all five", ALL, async (t) => {
  const server = await t.bare("--tick", "100ms", "--grace", "2s");
  const page = await open(t, server, { isStormy: true });
  await server.stop();
  await until(async () => (await page.locator('[data-mechanism][data-phase="waiting"]').count()) === MECHANISMS.length, "all to notice");
  await phase(page, "waiting");
  await shoot(t, page, "home-away");
  await server.start();
  await live(page);
  await phase(page, "live");
  for (const mechanism of MECHANISMS) {
    const { events } = await row(page, mechanism);
    await until(async () => (await row(page, mechanism)).events > events, `${mechanism} to count on`);
  }
});
