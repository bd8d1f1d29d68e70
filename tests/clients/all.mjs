// Every program's cases in one process, so that Node starts only once for each model.

import { suite as across } from "./across.mjs";
import { suite as engineio } from "./engineio.mjs";
import { suite as eventsource } from "./eventsource.mjs";
import { main } from "./lib/suite.mjs";
import * as notes from "./notes/all.mjs";
import { suite as pages } from "./pages.mjs";
import { suite as parser } from "./parser.mjs";
import { suite as restarts } from "./restarts.mjs";
import { suite as socketio } from "./socketio.mjs";
import { suite as undici } from "./undici.mjs";
import { suite as ws } from "./ws.mjs";

await main(ws, socketio, engineio, restarts, eventsource, undici, parser, pages, across, ...notes.suites);
