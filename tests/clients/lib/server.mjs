// Servers of the binary under test, each a process of its own.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createInterface } from "node:readline";
import { until, within } from "./wait.mjs";

/// The binary under test.
export const BINARY =
  process.env.SWITCHBOARD ?? fileURLToPath(new URL("../../../target/release/switchboard", import.meta.url));

const running = new Set();

// Nobody stays behind, whatever ends this process.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

export class Server {
  #child;
  #said = [];

  constructor(model, flags) {
    this.model = model;
    this.flags = flags;
    this.port = 0;
  }

  get host() {
    return `127.0.0.1:${this.port}`;
  }

  get http() {
    return `http://${this.host}`;
  }

  get ws() {
    return `ws://${this.host}`;
  }

  /// Starts it: on any port the first time, after that on the same one.
  async start() {
    // Somebody's connection to elsewhere may have been given the port meanwhile; it does not keep it for long.
    await until(() => this.#listen(), `${this.model} to listen on port ${this.port}`);
    return this;
  }

  async #listen() {
    const args = ["serve", this.model, "--listen", this.host, ...this.flags];
    const child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    this.#said = [];
    createInterface(child.stderr).on("line", (line) => this.#said.push(line));
    const ended = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        running.delete(child);
        resolve({ code, signal });
      });
    });
    const line = new Promise((resolve) => createInterface(child.stdout).once("line", resolve));
    const first = await within(Promise.race([line, ended]), `${this.model} to say where it listens`);
    const address = typeof first === "string" && first.match(/^listening on .*:(\d+)$/);
    if (!address) {
      if (this.port && this.said().includes("in use")) return false;
      throw new Error(`${BINARY} ${args.join(" ")} did not start: ${this.said()}`);
    }
    this.port = Number(address[1]);
    this.#child = { child, ended };
    return true;
  }

  /// Tells it to stop, and waits until it has.
  async stop() {
    if (!this.#child) return;
    const { child, ended } = this.#child;
    this.#child = undefined;
    child.kill("SIGTERM");
    const end = await within(ended, `${this.model} to stop`).catch((error) => {
      child.kill("SIGKILL");
      throw error;
    });
    if (end.code !== 0) throw new Error(`${this.model} ended with ${end.code ?? end.signal}: ${this.said()}`);
  }

  /// Ends it as a crash does, without a word to anybody.
  async crash() {
    const { child, ended } = this.#child;
    this.#child = undefined;
    child.kill("SIGKILL");
    await within(ended, `${this.model} to die`);
  }

  /// Lets it do nothing at all until `resume`. Its own children go on, if it has any.
  pause() {
    this.#child?.child.kill("SIGSTOP");
  }

  resume() {
    this.#child?.child.kill("SIGCONT");
  }

  said() {
    return this.#said.join("\n");
  }
}
