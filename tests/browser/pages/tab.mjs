// A tab of headless Chromium, and what must not happen in it: an error on its console, an exception that nobody catches, a dialog, a request to
// anybody but the server that the page is from.
//
// Chromium is $CHROMIUM, or `chromium` in PATH. All cases share one of it; each tab has a profile of its own, as another person's has.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { PATIENCE_MS, until as ask } from "../../clients/lib/wait.mjs";

/// Widths: a desk's window, and a phone of the smaller ones.
export const DESK = { width: 1280, height: 900 };
export const PHONE = { width: 360, height: 740 };

/// Waits for what a page shows. To ask takes the browser longer than the wait between two questions should be.
export const until = (probe, what) => ask(probe, what, PATIENCE_MS, 50);

let launched;

function browser() {
  const executablePath = process.env.CHROMIUM || execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
  return (launched ??= chromium.launch({ executablePath, args: ["--no-sandbox"] }));
}

/// What Chromium itself writes to the console when a server cannot be reached or refuses. No page can keep it from doing so.
const WEATHER = [/^Failed to load resource: /, /^WebSocket connection to '.*' failed: /];

/// Tabs that nobody uses. To open one takes longer than to load a page in it, and empty they are all alike.
const idle = [];

async function emptyTab() {
  // Nothing here looks at the moving picture, and painting it takes the processors from those who wait.
  const context = await (await browser()).newContext({ viewport: DESK, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const tab = { page, host: "", isStormy: false, wrong: [] };
  const isHere = (address) => new URL(address).host === tab.host || /^(blob|data|about):/.test(address);
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !(tab.isStormy && WEATHER.some((one) => one.test(text)))) tab.wrong.push(`console: ${text}`);
  });
  page.on("pageerror", (error) => tab.wrong.push(`exception: ${error.stack ?? error}`));
  page.on("dialog", async (dialog) => {
    tab.wrong.push(`dialog: ${dialog.message()}`);
    await dialog.dismiss();
  });
  page.on("websocket", (socket) => isHere(socket.url()) || tab.wrong.push(`a WebSocket to ${socket.url()}`));
  context.on("request", (request) => isHere(request.url()) || tab.wrong.push(`a request to ${request.url()}`));
  return tab;
}

/// Opens `url`. `isStormy`: the server is going to be away, or to refuse.
export async function tab(t, url, { isStormy = false, viewport = DESK } = {}) {
  const tab = idle.pop() ?? (await emptyTab());
  const { page } = tab;
  Object.assign(tab, { host: new URL(url).host, isStormy, wrong: [] });
  t.after(async () => {
    await page.goto("about:blank");
    assert.deepEqual(tab.wrong, [], `what must not happen on ${url}`);
    idle.push(tab);
  });
  await page.setViewportSize(viewport);
  await page.goto(url);
  return page;
}

/// The text of the element with this test id.
export const textOf = (page, testid) => page.getByTestId(testid).textContent();

/// Waits until an element's `data-NAME` is this.
export async function attribute(page, testid, name, value) {
  const element = page.getByTestId(testid);
  const attribute = `data-${name}`;
  let last;
  await until(async () => (last = await element.getAttribute(attribute)) === value, `${testid} to be ${value}`).catch(async (error) => {
    throw new Error(`${error.message}; it is ${last}: ${await element.textContent()}`);
  });
}

/// Waits until a page's connection is live, slow or waiting.
export const phase = (page, value) => attribute(page, "status", "phase", value);

/// Waits until a page says in how many seconds it tries again, beside a button that does so now.
export async function waits(page) {
  const isTold = () => page.evaluate(() => {
    const [status, button] = ["status", "try-now"].map((testid) => document.querySelector(`[data-testid="${testid}"]`));
    return status.dataset.phase === "waiting" && button.checkVisibility() && /Trying again in \d+ s\./.test(status.textContent);
  });
  await until(isTold, "the page to say when it tries again");
}

/// Presses that button, if there is still something to wait for.
export const tryNow = (page) => page.evaluate(() => document.querySelector('[data-testid="try-now"]').click());

/// Nothing is wider than the window, however narrow that is.
export async function fits(page, what) {
  const before = page.viewportSize();
  for (const size of [DESK, PHONE]) {
    await page.setViewportSize(size);
    const tooWide = await page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      const all = [document.documentElement, ...document.querySelectorAll("body *")];
      return all.filter(({ scrollWidth, clientWidth, tagName }) => clientWidth > 0 && scrollWidth > Math.max(width, clientWidth) && tagName !== "INPUT")
        .map(({ tagName, className, scrollWidth }) => `${tagName}.${className} is ${scrollWidth} px wide`);
    });
    assert.deepEqual(tooWide, [], `${what} at ${size.width} px`);
  }
  await page.setViewportSize(before);
}

/// Leaves pictures of a page in $SHOTS, if that is set: light, dark, and on a phone.
export async function shoot(t, page, name) {
  const folder = process.env.SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  const before = page.viewportSize();
  for (const [where, viewport] of [["desk", DESK], ["phone", PHONE]]) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: join(folder, `${name}-${t.model}-${where}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: null });
  await page.setViewportSize(before);
}
