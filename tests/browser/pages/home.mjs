// The first page in a browser: one event, heard in five ways.

import assert from "node:assert/strict";
import { publish } from "../../clients/lib/publish.mjs";
import { Suite } from "../../clients/lib/suite.mjs";
import { attribute, fits, phase, shoot, tab, textOf, tryNow, until } from "./tab.mjs";

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

/// The figures of each row, as numbers.
function figures(page) {
  return page.evaluate(() => {
    const row = (element) => {
      const figure = (testid) => Number(element.querySelector(`[data-testid="${testid}"]`).textContent.replace(/[, ]|ms/g, ""));
      return Object.fromEntries(["events", "requests", "empty", "bytes", "age"].map((testid) => [testid, figure(testid)]));
    };
    return Object.fromEntries([...document.querySelectorAll("[data-mechanism]")].map((element) => [element.dataset.mechanism, row(element)]));
  });
}

/// Waits until every row has counted so many events.
async function heard(page, events, what) {
  let seen;
  const isThere = async () => {
    seen = Object.entries(await figures(page)).map(([mechanism, row]) => [mechanism, row.events]);
    return seen.every(([, count]) => count >= events);
  };
  await until(isThere, `all to count ${events} events, ${what}`).catch((error) => {
    throw new Error(`${error.message}; they count ${seen.join(" ")}`);
  });
  return seen;
}

async function count(page, events, what) {
  for (const [mechanism, seen] of await heard(page, events, what)) assert.equal(seen, events, `${mechanism}, ${what}`);
}

suite.test("all five mechanisms count the same events, whoever publishes them", ALL, async (t) => {
  // It ticks, but not before this is over.
  const server = await t.bare("--tick", "1h");
  const page = await open(t, server);
  assert.match(await textOf(page, "model"), new RegExp(`: ${t.model}$`));
  const before = (await figures(page)).poll.events;
  for (const [i, by] of ["post", "websocket", "socketio"].entries()) {
    await page.getByTestId("say").locator(`button[value="${by}"]`).click();
    await count(page, before + i + 1, `one published by ${by}`);
  }
  await publish(server.http, "tick", String(Date.now()));
  await count(page, before + 4, "one published from elsewhere");
  const rows = await figures(page);
  for (const mechanism of MECHANISMS) {
    const { requests, bytes, age } = rows[mechanism];
    assert.ok(requests >= 1 && bytes > 0 && age >= 0, `${mechanism}: ${requests} requests, ${bytes} bytes, ${age} ms`);
  }
  assert.equal(rows.sse.requests, 1, "a stream is one request");
  assert.ok(rows.longpoll.requests >= 5, "a long poll is one for each event");
  await until(async () => (await figures(page)).poll.empty > rows.poll.empty, "another poll in vain");
});

suite.test("a ticking server; the page says what it is, and fits on any screen", ALL, async (t) => {
  const server = await t.bare("--tick", "100ms");
  const page = await open(t, server);
  await heard(page, 5, "as it ticks");
  await phase(page, "live");
  await until(async () => /ticks every 0\.1 s/.test(await textOf(page, "status")), "the page to say that the server ticks");
  assert.match(await textOf(page, "about"), new RegExp(t.model));
  const colours = () => page.getByTestId("lanes").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
  await until(async () => (await colours()) > 10, "the events to be painted");
  await fits(page, "the first page");
  await shoot(t, page, "home");
});

suite.test("short polling is enough for every page, also of a server that has one connection at a time", "poll", async (t) => {
  const server = await t.bare("--tick", "100ms");
  const page = await open(t, server);
  await until(async () => (await figures(page)).poll.events >= 3, "short polling to hear three ticks");
  await page.goto(`${server.http}/chat?by=poll`);
  await phase(page, "live");
  await page.getByTestId("text").fill("alone");
  await page.getByTestId("send").click();
  await page.locator('[data-testid="message"][data-state="published"]').waitFor();
  await page.goto(`${server.http}/login?by=poll`);
  await attribute(page, "state", "state", "waiting");
});

suite.test("without a tick of the server's the page publishes one itself", ALL, async (t) => {
  const server = await t.bare();
  const page = await open(t, server);
  await heard(page, 2, "that it publishes itself");
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
  await tryNow(page);
  await live(page);
  await phase(page, "live");
  const most = Math.max(...Object.values(await figures(page)).map(({ events }) => events));
  await heard(page, most + 1, "after a restart");
});
