// The sign-in in a browser: a page with a code, and the page that a phone opens, which is another browser.

import assert from "node:assert/strict";
import { Suite } from "../../clients/lib/suite.mjs";
import { PHONE, attribute, fits, phase, shoot, tab, textOf, tryNow, until } from "./tab.mjs";

export const suite = new Suite("the sign-in");

const ALL = "broadcast poll long-poll event-stream";
const WAYS = ["poll", "longpoll", "sse", "websocket"];

const state = (page, value) => attribute(page, "state", "state", value);

/// A page that shows a code and waits by this mechanism.
async function open(t, server, by, options) {
  const page = await tab(t, `${server.http}/login?by=${by}`, options);
  await state(page, "waiting");
  await phase(page, "live");
  return page;
}

/// A phone that opens the link of that page.
async function phone(t, page, options) {
  const link = page.getByTestId("link");
  const address = await link.getAttribute("href");
  assert.equal(await link.textContent(), address);
  const opened = await tab(t, address, { viewport: PHONE, ...options });
  assert.equal(await textOf(opened, "code"), await textOf(page, "code"));
  return opened;
}

async function confirm(page, name) {
  await page.getByTestId("name").fill(name);
  await page.getByTestId("confirm").click();
}

for (const by of WAYS) {
  suite.test(`a phone confirms, and the page learns it by ${by}`, ALL, async (t) => {
    const page = await open(t, await t.server("pages"), by);
    await until(() => page.getByTestId("qr").evaluate((image) => image.complete && image.naturalWidth > 0), "the picture of the code");
    const hand = await phone(t, page);
    await confirm(hand, `Teacher, who hears by ${by}`);
    await state(hand, "confirmed");
    await state(page, "confirmed");
    assert.match(await textOf(page, "state"), new RegExp(`Teacher, who hears by ${by}`));
    assert.ok(!(await page.getByTestId("link").isVisible()), "a code that is used up is not offered");
  });
}

suite.test("a code is good for one", ALL, async (t) => {
  const page = await open(t, await t.server("pages"), "longpoll");
  await fits(page, "the sign-in");
  await shoot(t, page, "login");
  const [first, second] = [await phone(t, page), await phone(t, page, { isStormy: true })];
  await shoot(t, first, "phone");
  await confirm(first, "Teacher");
  await state(first, "confirmed");
  await state(page, "confirmed");
  await confirm(second, "Student");
  await state(second, "used");
  assert.match(await textOf(page, "state"), /Teacher/);
  await shoot(t, page, "login-done");
  await shoot(t, second, "phone-used");
});

suite.test("a code that nobody confirms expires, and the page learns it in each way", ALL, async (t) => {
  const server = await t.bare("--login-expiry", "1s");
  // Whoever is slow asks for the picture when the code is gone.
  const pages = await Promise.all(WAYS.map((by) => tab(t, `${server.http}/login?by=${by}`, { isStormy: true })));
  await Promise.all(pages.map((page) => until(() => textOf(page, "code"), "a code")));
  const code = await textOf(pages[0], "code");
  const late = await tab(t, `${server.http}/login/phone?code=${code}`, { viewport: PHONE, isStormy: true });
  await Promise.all(pages.map((page) => state(page, "expired")));
  await confirm(late, "Teacher");
  await state(late, "expired");
  await shoot(t, pages[0], "login-expired");
  await pages[0].getByTestId("new-code").click();
  await until(async () => ![code, ""].includes(await textOf(pages[0], "code")), "another code");
});

suite.test("a name is text, whatever stands in it, and has to be one", ALL, async (t) => {
  const server = await t.server("pages");
  const page = await open(t, server, "sse");
  const hand = await phone(t, page);
  await confirm(hand, "   ");
  await until(async () => /who you are/.test(await textOf(hand, "state")), "a word about the name that is none");
  const name = '"><img src=x onerror=alert(1)>\u202e' + "w".repeat(33);
  await confirm(hand, name);
  await state(hand, "confirmed");
  await state(page, "confirmed");
  for (const one of [page, hand]) {
    assert.equal(await one.getByTestId("state").evaluate((element) => element.childElementCount), 0);
    assert.match(await textOf(one, "state"), /"><img src=x onerror=/);
    await fits(one, "a hostile name");
  }
}, { once: true });

suite.test("a phone with a code that is not known, hostile, or missing", ALL, async (t) => {
  const { http } = await t.server("pages");
  for (const code of ["nobody-has-this", '"><img src=x onerror=alert(1)>', "x".repeat(2000), "../../publish?topic=t"]) {
    const page = await tab(t, `${http}/login/phone?code=${encodeURIComponent(code)}`, { viewport: PHONE, isStormy: true });
    await confirm(page, "Teacher");
    await state(page, "unknown");
    await fits(page, "a code that is none");
  }
  const none = await tab(t, `${http}/login/phone`, { viewport: PHONE });
  await state(none, "unknown");
  assert.ok(await none.getByTestId("confirm").isDisabled());
}, { once: true });

suite.test("a server that is started again has forgotten the code, and the page says so", ALL, async (t) => {
  const server = await t.bare("--grace", "2s");
  const pages = await Promise.all(WAYS.map((by) => open(t, server, by, { isStormy: true })));
  const codes = await Promise.all(pages.map((page) => textOf(page, "code")));
  await server.stop();
  await Promise.all(pages.map((page) => phase(page, "waiting")));
  await server.start();
  await Promise.all(pages.map(tryNow));
  for (const [i, page] of pages.entries()) {
    await state(page, "lost").catch((error) => assert.fail(`by ${WAYS[i]}: ${error.message}`));
    await page.getByTestId("new-code").click();
    await state(page, "waiting");
    assert.notEqual(await textOf(page, "code"), codes[i]);
  }
});
