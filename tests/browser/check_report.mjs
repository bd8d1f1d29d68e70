// Opens a report in headless Chromium as a reader would, and says what is wrong with it.
//
// Usage: node check_report.mjs REPORT.html [FOLDER-FOR-SCREENSHOTS]
//
// Chromium is $CHROMIUM, or `chromium` in PATH. Exit status 1 names each failure.

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [report, shots] = process.argv.slice(2);
if (!report) {
  console.error("usage: node check_report.mjs REPORT.html [FOLDER-FOR-SCREENSHOTS]");
  process.exit(2);
}
const url = pathToFileURL(resolve(report)).href;
const executablePath = process.env.CHROMIUM || execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
const failures = [];
const check = (holds, what) => holds || failures.push(what);

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
if (shots) mkdirSync(shots, { recursive: true });

async function open(options, name) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on("console", (message) => check(message.type() !== "error", `${name}: console: ${message.text()}`));
  page.on("pageerror", (error) => failures.push(`${name}: ${error.message}`));
  page.on("request", (request) => check(request.url() === url, `${name}: asked for ${request.url()}`));
  await page.goto(url);
  return { context, page };
}

// Boxes that share more than a pixel.
const overlaps = (boxes) => boxes.flatMap((one, index) => boxes.slice(index + 1).filter((other) =>
  one.x + 1 < other.x + other.width && other.x + 1 < one.x + one.width
  && one.y + 1 < other.y + other.height && other.y + 1 < one.y + one.height));

for (const width of [1280, 390]) {
  for (const colorScheme of ["light", "dark"]) {
    const name = `${width} ${colorScheme}`;
    const { context, page } = await open({ viewport: { width, height: 900 }, colorScheme }, name);
    const charts = await page.locator(".chart").all();
    check(await page.locator("figure").count() > 0, `${name}: there is no picture`);
    check(await page.locator(".chart.drawn canvas").count() >= charts.length, `${name}: a chart is not drawn`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    check(wide <= 0, `${name}: the page is ${wide} px wider than the window`);
    for (const chart of charts) {
      const title = await chart.locator(".title").textContent();
      const at = `${name}: ${title}`;
      check(await chart.isVisible(), `${at}: not visible`);
      const buttons = await chart.locator(".tools button").all();
      const boxes = (await Promise.all(buttons.map((button) => button.boundingBox()))).filter(Boolean);
      check(overlaps(boxes).length === 0, `${at}: names of the legend overlap`);
      // What the canvas has of text it tells through the library's own measure of its axes.
      const picture = () => chart.locator("canvas").first().evaluate((canvas) => canvas.toDataURL());
      const before = await picture();
      const line = chart.locator(".tools button[aria-pressed]").first();
      await line.click();
      check(await line.getAttribute("aria-pressed") === "false", `${at}: a line cannot be switched off`);
      check(await picture() !== before, `${at}: a line that is switched off is still there`);
      await line.press("Enter");
      check(await line.getAttribute("aria-pressed") === "true", `${at}: a line cannot be switched on by keyboard`);
      check(await picture() === before, `${at}: a line that is switched on again is not as it was`);
      const scale = chart.locator(".scale");
      const words = await scale.textContent();
      await scale.click();
      check(await scale.textContent() !== words && await picture() !== before, `${at}: the scale does not change`);
      await scale.click();
      const over = chart.locator(".u-over");
      await over.scrollIntoViewIfNeeded();
      const box = await over.boundingBox();
      let seen = "";
      for (let part = 1; part < 12 && !seen; part += 1) {
        for (let height = 1; height < 8 && !seen; height += 1) {
          await page.mouse.move(box.x + box.width * part / 12, box.y + box.height * height / 8);
          seen = await chart.locator(".tip").textContent();
        }
      }
      check(/ at .+: .+ round/.test(seen), `${at}: no value is shown where the pointer is`);
    }
    if (shots) await page.screenshot({ path: join(shots, `${basename(dirname(resolve(report)))}-${width}-${colorScheme}.png`), fullPage: false });
    await context.close();
  }
}

for (const [name, options, media] of [["without JavaScript", { javaScriptEnabled: false }, "screen"], ["on paper", {}, "print"]]) {
  const { context, page } = await open({ viewport: { width: 1280, height: 900 }, ...options }, name);
  await page.emulateMedia({ media });
  const pictures = await page.locator("figure .static svg").all();
  check(pictures.length > 0, `${name}: there is no picture`);
  for (const picture of pictures) check(await picture.isVisible(), `${name}: a picture is not visible`);
  for (const chart of await page.locator(".chart").all()) check(!await chart.isVisible(), `${name}: an empty chart is visible`);
  await context.close();
}

// Labels of the static pictures.
{
  const { context, page } = await open({ viewport: { width: 1280, height: 900 }, javaScriptEnabled: false }, "pictures");
  for (const picture of await page.locator("figure .static svg").all()) {
    const texts = await picture.locator("text").all();
    const boxes = (await Promise.all(texts.map((text) => text.boundingBox()))).filter((box) => box && box.width > 0);
    // Lines of text are higher than their letters.
    const tight = boxes.map(({ x, y, width, height }) => ({ x, y: y + height * 0.25, width, height: height * 0.5 }));
    const found = overlaps(tight);
    check(found.length === 0, `a picture has ${found.length} labels that overlap`);
  }
  await context.close();
}

await browser.close();
for (const failure of failures) console.error(`${report}: ${failure}`);
if (failures.length === 0) console.log(`${report}: opens, draws, toggles, prints`);
process.exit(failures.length ? 1 : 0);
