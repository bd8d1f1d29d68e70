// Each kind of client that the notes show which this project grew from, as a program of our own with the same libraries and calls.
//
//     node notes/all.mjs [MODEL...]
//
// What other programs here have already (the three ways to send in ../socketio.mjs, time stamps to everybody in ../ws.mjs) is not said twice.

import { pathToFileURL } from "node:url";
import { main } from "../lib/suite.mjs";
import { suite as chat } from "./chat.mjs";
import { suite as eventsource } from "./eventsource.mjs";
import { suite as page } from "./page.mjs";
import { suite as polling } from "./polling.mjs";
import { suite as servers } from "./servers.mjs";
import { suite as signin } from "./signin.mjs";
import { suite as websockets } from "./websockets.mjs";

export const suites = [servers, page, chat, websockets, eventsource, polling, signin];

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(...suites);
