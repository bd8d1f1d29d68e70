// The chat in a browser: tabs on different mechanisms are in one room; what others write is text; whoever was away misses nothing that is held.

import assert from "node:assert/strict";
import { cable } from "../../clients/lib/cable.mjs";
import { publish } from "../../clients/lib/publish.mjs";
import { Suite } from "../../clients/lib/suite.mjs";
import { PHONE, fits, phase, shoot, tab, tryNow, until, waits } from "./tab.mjs";

export const suite = new Suite("the chat");

const ALL = "broadcast poll long-poll event-stream socket-io";
export const MECHANISMS = ["poll", "longpoll", "sse", "websocket", "socketio"];
const EVENT = "chat message - server";

/// A tab in the chat.
export class Chat {
  static async open(t, http, by, name = by, options = {}) {
    const chat = new Chat();
    chat.by = by;
    chat.page = await tab(t, `${http}/chat?by=${by}&name=${encodeURIComponent(name)}`, options);
    await phase(chat.page, "live");
    return chat;
  }

  async say(text) {
    await this.page.getByTestId("text").fill(text);
    await this.page.getByTestId("send").click();
  }

  /// What stands in the list: `{ state, author, content }`, or `{ note }`.
  list() {
    return this.page.evaluate(() => {
      const within = (item, testid) => item.querySelector(`[data-testid="${testid}"]`).textContent;
      return [...document.querySelector('[data-testid="message-list"]').children].map((item) =>
        item.dataset.testid === "note"
          ? { note: item.dataset.note, content: item.textContent }
          : { state: item.dataset.state, author: within(item, "author"), content: within(item, "content") });
    });
  }

  async contents() {
    return (await this.list()).filter(({ note }) => !note).map(({ content }) => content);
  }

  async notes() {
    return (await this.list()).filter(({ note }) => note).map(({ note }) => note);
  }

  /// Waits until so many messages are there and published.
  async published(count) {
    let list = [];
    const isThere = async () => {
      list = (await this.list()).filter(({ note }) => !note);
      return list.length >= count && list.every(({ state }) => state === "published");
    };
    await until(isThere, `${count} messages in the tab by ${this.by}`).catch((error) => {
      throw new Error(`${error.message}; there are ${JSON.stringify(list).slice(0, 1000)}`);
    });
    return list;
  }
}

export const openAll = (t, http, options) => Promise.all(MECHANISMS.map((by) => Chat.open(t, http, by, by, options)));

/// Waits until all tabs show so many messages, and holds them against each other.
export async function same(tabs, count, what) {
  const lists = await Promise.all(tabs.map((one) => one.published(count)));
  for (const [i, list] of lists.entries()) assert.deepEqual(list, lists[0], `${tabs[i].by} and ${tabs[0].by} show the same, ${what}`);
  return lists[0].map(({ content }) => content);
}

const say = (server, text) => publish(server.http, "chat", text, { event: EVENT });

suite.test("what a tab says on any mechanism is shown by tabs on every other", ALL, async (t) => {
  const server = await t.bare();
  const tabs = await openAll(t, server.http);
  // Each says something to all the others: every pair, in both directions.
  for (const one of tabs) await one.say(`by ${one.by}`);
  const seen = await same(tabs, tabs.length, "after each has spoken");
  assert.deepEqual([...seen].sort(), MECHANISMS.map((by) => `by ${by}`).sort());
  for (const { author, content } of await tabs[0].list()) assert.equal(content, `by ${author}`);
  for (const one of tabs) assert.equal(await one.page.locator('[data-testid="message"].mine').count(), 1, "one's own");
  await fits(tabs[0].page, "the chat");
  await shoot(t, tabs[0].page, "chat");
});

suite.test("a tab that changes its mechanism neither misses nor repeats anything", ALL, async (t) => {
  const server = await t.bare();
  const one = await Chat.open(t, server.http, "poll");
  let count = 0;
  for (const by of [...MECHANISMS.slice(1), "poll"]) {
    await say(server, `before ${by}`);
    await one.page.getByTestId("mechanism").selectOption(by);
    await say(server, `by ${by}`);
    await one.published((count += 2));
    await phase(one.page, "live");
  }
  await say(server, "the end");
  const contents = (await one.published(count + 1)).map(({ content }) => content);
  assert.deepEqual(contents, [...[...MECHANISMS.slice(1), "poll"].flatMap((by) => [`before ${by}`, `by ${by}`]), "the end"]);
});

const HOSTILE = [
  '<img src=x onerror="window.hacked=1;alert(1)">',
  '"><script>window.hacked=1;alert(2)</script>',
  "' onmouseover='window.hacked=1",
  "javascript:alert(3)",
  "\u202egnikcatta si siht\u202d and on",
  "<style>*{display:none}</style><b>bold</b>&lt;i&gt;",
  `long${"word".repeat(2500)}`,
  "a\u0000b\tc",
];

suite.test("names and messages from others are text, whatever stands in them", ALL, async (t) => {
  const server = await t.bare();
  const tabs = await Promise.all(["poll", "sse", "websocket", "socketio"].map((by) => Chat.open(t, server.http, by, HOSTILE[0], { viewport: PHONE })));
  const [first] = tabs;
  const elements = () => first.page.evaluate(() => document.querySelectorAll("body *:not([data-testid=message-list] *)").length);
  const before = await elements();
  // As a tab of ours would say it, as JSON of somebody else's, and as what is no message of this chat at all.
  for (const [i, text] of HOSTILE.entries()) {
    await say(server, JSON.stringify({ id: `${i}${text}`.slice(0, 90), name: text, text }));
    await say(server, text);
  }
  for (const strange of ["null", "[]", '{"id":1,"text":"x"}', '{"id":"a","text":{"a":1}}', `{"id":"${"x".repeat(5000)}","text":"y"}`, '{"__proto__":{"id":"p"},"text":"z"}']) {
    await say(server, strange);
  }
  const count = 2 * HOSTILE.length + 6;
  await same(tabs, count, "hostile or not");
  await first.say(HOSTILE[1]);
  const seen = await same(tabs, count + 1, "hostile or not");
  for (const text of HOSTILE.slice(0, 6)) assert.equal(seen.filter((one) => one === text).length, text === HOSTILE[1] ? 3 : 2, text);
  for (const { page } of tabs) {
    const inside = await page.evaluate(() => [...new Set([...document.querySelectorAll("[data-testid=message-list] *")].map(({ tagName }) => tagName))].sort());
    assert.deepEqual(inside, ["B", "LI", "SMALL", "SPAN"], "only what the page itself makes");
    assert.equal(await page.evaluate(() => window.hacked), undefined);
  }
  assert.equal(await elements(), before, "nothing appears outside of the list");
  assert.ok(await first.page.getByTestId("send").isVisible());
  await fits(first.page, "a hostile chat");
  await shoot(t, first.page, "hostile");
});

suite.test("a server that is started again: all of it once, and what was written meanwhile is sent, once", ALL, async (t) => {
  const server = await t.bare("--grace", "2s");
  const tabs = await openAll(t, server.http, { isStormy: true });
  await say(server, "before 1");
  await say(server, "before 2");
  await same(tabs, 2, "before");
  await server.stop();
  await Promise.all(tabs.map(async (one) => {
    await waits(one.page);
    await one.say(`unsent by ${one.by}`);
    assert.deepEqual((await one.list()).at(-1), { state: "pending", author: one.by, content: `unsent by ${one.by}` });
  }));
  await shoot(t, tabs[3].page, "away");
  await server.start();
  // Three events, as many as the tabs have heard and more: only the run tells these from those.
  for (let i = 1; i <= 3; i++) await say(server, `meanwhile ${i}`);
  // The first comes back by itself, the others are told to.
  await Promise.all(tabs.slice(1).map(({ page }) => tryNow(page)));
  await Promise.all(tabs.map((one) => phase(one.page, "live")));
  const count = 2 + 3 + tabs.length;
  const seen = await same(tabs, count, "after");
  const unsent = MECHANISMS.map((by) => `unsent by ${by}`);
  assert.deepEqual(seen.slice(0, 2), ["before 1", "before 2"]);
  assert.deepEqual(seen.filter((text) => text.startsWith("meanwhile")), [1, 2, 3].map((i) => `meanwhile ${i}`));
  assert.deepEqual(seen.filter((text) => text.startsWith("unsent")).sort(), unsent.sort());
  for (const one of tabs) assert.deepEqual(await one.notes(), ["restarted"], `${one.by} says it once`);
  // Nothing is sent twice, also not where nobody would see it.
  const { newest } = await (await fetch(`${server.http}/poll?topic=chat`)).json();
  assert.equal(newest, 3 + tabs.length);
});

suite.test("a connection that breaks and comes back: nothing twice, nothing missing, and what is no longer held is said", ALL, async (t) => {
  const server = await t.bare("--history", "8", "--grace", "2s");
  const through = await cable(t, server);
  const tabs = await openAll(t, through.http, { isStormy: true });
  await say(server, "before");
  await same(tabs, 1, "before");
  through.cut();
  await Promise.all(tabs.map((one) => phase(one.page, "waiting")));
  for (let i = 1; i <= 5; i++) await say(server, `short ${i}`);
  through.mend();
  const short = await same(tabs, 6, "after a short while");
  assert.deepEqual(short, ["before", ...[1, 2, 3, 4, 5].map((i) => `short ${i}`)]);
  for (const one of tabs) assert.deepEqual(await one.notes(), []);
  await Promise.all(tabs.map((one) => phase(one.page, "live")));

  through.cut();
  await Promise.all(tabs.map((one) => phase(one.page, "waiting")));
  // Of these the first three are gone when the tabs come back.
  for (let i = 1; i <= 11; i++) await say(server, `long ${i}`);
  through.mend();
  await Promise.all(tabs.map(({ page }) => tryNow(page)));
  const long = await same(tabs, 14, "after a long while");
  assert.deepEqual(long, [...short, ...[4, 5, 6, 7, 8, 9, 10, 11].map((i) => `long ${i}`)]);
  for (const one of tabs) {
    const notes = (await one.list()).filter(({ note }) => note);
    assert.deepEqual(notes.map(({ note }) => note), ["missed"], one.by);
    assert.match(notes[0].content, /\b3 messages/);
  }
});
