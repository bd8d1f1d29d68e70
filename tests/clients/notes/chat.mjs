// The notes' chat: pages with a form and a list. What somebody sends is told to all, also to who sent it.

import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { Suite, mainIf } from "../lib/suite.mjs";
import { once, until } from "../lib/wait.mjs";

export const suite = new Suite("the chat page");

/// A page that has been opened, with its list.
async function page(t, server) {
  const socket = io(server.http, { forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100 });
  t.after(() => socket.close());
  const list = [];
  socket.on("chat message - server", (text) => list.push(text));
  await once(socket, "connect");
  const submit = (text) => text && socket.emit("chat message - client", text);
  return { socket, list, submit };
}

const all = async (pages, length, what) => {
  for (const { list } of pages) await until(() => list.length >= length, `${what}: ${list.length} of ${length} lines are there`);
  for (const { list } of pages) assert.deepEqual(list, pages[0].list, "all see the same order");
};

suite.test("several pages, each of which talks, show the same list", "socket-io", async (t) => {
  const server = await t.own();
  const pages = await Promise.all(Array.from({ length: 5 }, () => page(t, server)));
  const LINES = 10;
  for (let line = 1; line <= LINES; line++) {
    pages.forEach(({ submit }, who) => submit(`${who}: line ${line}`));
    if (line % 3 === 0) await new Promise(setImmediate);
  }
  await all(pages, LINES * pages.length, "what all say at once");
  pages.forEach((_, who) => {
    const mine = pages[0].list.filter((text) => text.startsWith(`${who}:`));
    assert.deepEqual(mine, Array.from({ length: LINES }, (_, i) => `${who}: line ${i + 1}`), "each line once, in its order");
  });
});

suite.test("who comes later hears what is said from then on, who goes hears no more", "socket-io", async (t) => {
  const server = await t.own();
  const [teacher, student] = [await page(t, server), await page(t, server)];
  teacher.submit("before Engineer came");
  await all([teacher, student], 1, "the first line");
  const engineer = await page(t, server);
  student.submit("<b>Engineer</b> & \"all\" \u202e €🦀");
  await all([teacher, student], 2, "the second line");
  await until(() => engineer.list.length, "what Student said to reach Engineer");
  assert.deepEqual(engineer.list, teacher.list.slice(1), "as it was written, for who is there");
  student.socket.close();
  engineer.submit("");
  engineer.submit("Student is gone");
  await all([teacher], 3, "the third line");
  student.socket.open();
  await once(student.socket, "connect");
  engineer.submit("Student is back");
  await all([teacher], 4, "the fourth line");
  await until(() => student.list.length >= 3, "the fourth line to reach Student");
  assert.deepEqual(student.list, [...teacher.list.slice(0, 2), "Student is back"]);
});

await mainIf(import.meta, suite);
