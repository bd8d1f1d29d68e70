// Cases, and what runs them. Every program here is a list of cases for one kind of client:
//
//     node ws.mjs [MODEL...]       runs those of `ws` against these models [default: epoll]
//     node all.mjs [MODEL...]      runs those of every program
//
// The binary is ../../target/release/switchboard, or $SWITCHBOARD. What the models serve it says itself; a case runs where all that it
// needs is served. Exit status 1 names each case that failed.

import { execFileSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import { BINARY, Server } from "./server.mjs";
import { within } from "./wait.mjs";

/// Cases of one model that run at the same time.
const AT_ONCE = 24;
const AT_ONCE_SPINNING = 4;

/// How long a case may take altogether.
const CASE_MS = 60_000;

/// Settings of the servers that cases share. `usual` has short heartbeats and small limits, so that they are met; whatever a client
/// could miss because the machine is slow is long. `tight` has what ends connections that do nothing. `pages` is what people get.
const SETTINGS = {
  usual: [
    "--history", "32", "--max-message-bytes", "2MiB", "--tick", "200ms", "--sse-heartbeat", "200ms",
    "--ping-interval", "300ms", "--cors-origin", "https://page.example", "--grace", "2s",
  ],
  tight: [
    "--max-topics", "2", "--max-sessions", "1", "--handshake-timeout", "4s", "--heartbeat", "5s", "--keep-alive", "4s", "--grace", "2s",
  ],
  pages: [],
};

export class Suite {
  cases = [];

  constructor(client) {
    this.client = client;
  }

  /// A case, which needs these mechanisms to be served. `once`: it has little to do with the model, and is run for the first of several.
  test(name, needs, run, { once = false } = {}) {
    this.cases.push({ name: `${this.client}: ${name}`, needs: needs.split(" "), run, once });
  }
}

/// What a case has: servers, and somebody who tidies up.
class Context {
  #tidy = [];
  /// What a failure may follow from.
  log = [];

  constructor(model, shared) {
    this.model = model;
    this.shared = shared;
    /// Names of topics and words that no other case uses.
    this.unique = (name = "t") => `${name}-${Context.#number++}`;
  }

  static #number = 1;

  /// The server of these settings that all cases share.
  server(settings = "usual") {
    return (this.shared[settings] ??= new Server(this.model, SETTINGS[settings]).start());
  }

  /// A server of one's own, to be stopped and started. What these flags set is not as usual.
  own(...flags) {
    const usual = SETTINGS.usual.filter((_, i, all) => !flags.includes(all[i - (i % 2)]));
    return this.bare(...usual, ...flags);
  }

  /// One that has only these settings.
  async bare(...flags) {
    const server = await new Server(this.model, flags).start();
    this.after(() => server.stop());
    return server;
  }

  /// Does something at the end, whatever the end is; the last first.
  after(what) {
    this.#tidy.push(what);
  }

  /// Does all of that, and throws the first of what went wrong in it.
  async tidy() {
    const errors = [];
    for (const what of this.#tidy.reverse()) {
      try {
        await what();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length) throw errors[0];
  }
}

async function runCase(one, model, shared, caseMs) {
  const context = new Context(model, shared);
  const errors = [];
  const note = (error) => errors.push(error);
  await within(one.run(context), "its end", caseMs).catch(note);
  const { log } = context;
  if (errors.length && log.length) errors.push(`before that:\n    ${log.splice(0).join("\n    ")}`);
  await within(context.tidy(), "it to tidy up").catch(note);
  return errors;
}

/// Runs the cases against a model; returns how many failed.
async function runModel(model, cases, { atOnce = AT_ONCE, caseMs = CASE_MS }) {
  const begin = Date.now();
  const shared = {};
  const [queue, failed, slow] = [[...cases], [], []];
  const work = async () => {
    for (let one; (one = queue.shift()); ) {
      const caseBegin = Date.now();
      const errors = await runCase(one, model.name, shared, caseMs);
      slow.push([Date.now() - caseBegin, one.name]);
      for (const error of errors) {
        failed.push(one.name);
        console.log(`FAILED ${model.name}: ${one.name}\n    ${(error.stack ?? String(error)).replaceAll("\n", "\n    ")}`);
      }
    }
  };
  // Who serves one connection at a time gets one at a time. Servers that never sleep share the cores with all the others.
  const workers = !model.serves.includes("together") ? 1 : model.name === "spin" ? AT_ONCE_SPINNING : atOnce;
  await Promise.all(Array.from({ length: workers }, work));
  for (const server of await Promise.allSettled(Object.values(shared))) {
    await server.value?.stop().catch((error) => {
      failed.push("the end");
      console.log(`FAILED ${model.name}: the end\n    ${error.message}`);
    });
  }
  const [ms, name] = slow.sort(([a], [b]) => b - a)[0] ?? [0, ""];
  const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
  const result = failed.length ? `${failed.length} of ${cases.length} failed` : `${cases.length} passed`;
  console.log(`${model.name}: ${result} in ${seconds(Date.now() - begin)}; the slowest took ${seconds(ms)}: ${name}`);
  return failed.length;
}

/// Runs all cases of these suites against the models of the command line, and ends the process.
export async function main(...suites) {
  await run(suites, {});
}

/// The same, with `atOnce` cases at the same time, each of which may take `caseMs`.
export async function run(suites, limits) {
  const known = JSON.parse(execFileSync(BINARY, ["models", "--all", "--json"], { encoding: "utf8" }));
  const done = new Set();
  let failures = 0;
  for (const name of process.argv.length > 2 ? process.argv.slice(2) : ["epoll"]) {
    const model = known.find((model) => model.name === name);
    if (!model) {
      console.log(`there is no model ${name}: switchboard models lists them`);
      process.exit(1);
    }
    const isDue = (one) => !(one.once && done.has(one)) && one.needs.every((mechanism) => model.serves.includes(mechanism));
    const cases = suites.flatMap((suite) => suite.cases).filter(isDue);
    failures += await runModel(model, cases, limits);
    cases.forEach((one) => done.add(one));
  }
  process.exit(failures ? 1 : 0);
}

/// The same, if `meta` is that of the program that was started.
export async function mainIf(meta, suite) {
  if (meta.url === pathToFileURL(process.argv[1]).href) await main(suite);
}
