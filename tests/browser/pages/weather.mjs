// Bad weather: servers that refuse, are slow, or hang up. The pages say so to the person, in words, and come back by themselves.

import assert from "node:assert/strict";
import { publish } from "../../clients/lib/publish.mjs";
import { Suite } from "../../clients/lib/suite.mjs";
import { Chat, MECHANISMS, openAll, same } from "./chat.mjs";
import { relay } from "./relay.mjs";
import { attribute, phase, shoot, tab, textOf, until, waits } from "./tab.mjs";

export const suite = new Suite("bad weather");

const ALL = "broadcast poll long-poll event-stream socket-io";

// It is the pages that this is about, and not the models.
const test = (name, run) => suite.test(name, ALL, run, { once: true });

/// Waits until the line about the connection says this.
async function says(page, pattern) {
  let text;
  await until(async () => pattern.test((text = await textOf(page, "status"))), `the page to say ${pattern}`).catch((error) => {
    throw new Error(`${error.message}; it says "${text}"`);
  });
}

test("a server that refuses with 503 is quoted, with when it is asked again, by every mechanism", async (t) => {
  const server = await t.bare();
  const between = await relay(t, server);
  const tabs = await openAll(t, between.http, { isStormy: true });
  between.weather("refusing");
  between.hangUp();
  for (const { page } of tabs) {
    await says(page, /refuses \(503\): Too many people are here at the moment\./);
    await waits(page);
  }
  await shoot(t, tabs[0].page, "refused");
  await tabs[0].say("said in the rain");
  await publish(server.http, "chat", "meanwhile");
  between.weather("fair");
  await Promise.all(tabs.map(({ page }) => phase(page, "live")));
  assert.deepEqual((await same(tabs, 2, "after it")).sort(), ["meanwhile", "said in the rain"]);
});

test("a server that does not answer is called slow, by every mechanism, and nothing is sent twice", async (t) => {
  const server = await t.bare();
  const between = await relay(t, server);
  const tabs = await openAll(t, between.http, { isStormy: true });
  // A request that is held on purpose, as a long poll is, is not a slow one: all have to ask anew.
  between.weather("refusing");
  between.hangUp();
  await Promise.all(tabs.map(({ page }) => phase(page, "waiting")));
  between.weather("slow");
  await Promise.all(tabs.map(({ page }) => phase(page, "slow")));
  for (const { page } of tabs) assert.match(await textOf(page, "status"), /answers slowly/);
  for (const one of tabs) await one.say(`by ${one.by}`);
  between.weather("fair");
  await Promise.all(tabs.map(({ page }) => phase(page, "live")));
  const seen = await same(tabs, tabs.length, "after it");
  assert.deepEqual(seen.sort(), MECHANISMS.map((by) => `by ${by}`).sort());
  const { newest } = await (await fetch(`${server.http}/poll?topic=chat`)).json();
  assert.equal(newest, tabs.length);
});

test("a WebSocket that is closed with 1013 is explained, and opened again", async (t) => {
  const server = await t.bare();
  const between = await relay(t, server);
  const one = await Chat.open(t, between.http, "websocket", "Teacher", { isStormy: true });
  between.weather("closing");
  between.hangUp();
  await says(one.page, /too slowly|too busy/);
  await phase(one.page, "waiting");
  await publish(server.http, "chat", "meanwhile");
  between.weather("fair");
  await phase(one.page, "live");
  assert.deepEqual((await one.published(1)).map(({ content }) => content), ["meanwhile"]);
});

test("the first page and the sign-in in the same weather", async (t) => {
  const server = await t.bare("--tick", "100ms");
  const between = await relay(t, server);
  const home = await tab(t, `${between.http}/`, { isStormy: true });
  const login = await tab(t, `${between.http}/login?by=sse`, { isStormy: true });
  const hand = await tab(t, `${between.http}/login/phone?code=x`, { isStormy: true });
  const live = () => home.locator('[data-mechanism][data-phase="live"]').count();
  await until(async () => (await live()) === MECHANISMS.length, "all mechanisms");
  await attribute(login, "state", "state", "waiting");

  between.weather("refusing");
  between.hangUp();
  for (const page of [home, login]) await says(page, /refuses \(503\)/);
  await hand.getByTestId("name").fill("Teacher");
  await hand.getByTestId("confirm").click();
  await attribute(hand, "state", "state", "failed");
  assert.match(await textOf(hand, "state"), /refuses \(503\)/);

  between.weather("fair");
  await until(async () => (await live()) === MECHANISMS.length, "all mechanisms again");
  await phase(home, "live");
  await phase(login, "live");
  const code = await textOf(login, "code");
  const phone = await tab(t, `${between.http}/login/phone?code=${code}`);
  await phone.getByTestId("name").fill("Teacher");
  await phone.getByTestId("confirm").click();
  await attribute(login, "state", "state", "confirmed");

  between.weather("slow");
  await hand.getByTestId("confirm").click();
  await until(async () => /answers slowly/.test(await textOf(hand, "state")), "the phone to call it slow");
  between.weather("fair");
  await attribute(hand, "state", "state", "unknown");
});
