// The pages of the server, used in headless Chromium as people use them.
//
//     node pages/all.mjs [MODEL...]       [default: epoll]
//
// In reading order: tab.mjs, a tab and what must not happen in it; home.mjs, chat.mjs, login.mjs, the pages while all is well or the server is started
// again; weather.mjs, servers that refuse, are slow or hang up. The servers and the waiting are those of ../../clients/lib. $SHOTS is a folder for screenshots.

import { run } from "../../clients/lib/suite.mjs";
import { suite as chat } from "./chat.mjs";
import { suite as home } from "./home.mjs";
import { suite as login } from "./login.mjs";
import { suite as weather } from "./weather.mjs";

// A case has up to five tabs. On a machine that does something else as well a tab takes seconds to open.
await run([home, chat, login, weather], { atOnce: 4, caseMs: 180_000 });
