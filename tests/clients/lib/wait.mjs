// Waiting for what others do: always for the thing itself, never for a time, and never for ever.

/// How long anything may take. A machine under load is slow; only a server that forgot somebody takes as long as this.
export const PATIENCE_MS = 20_000;

/// What `promise` becomes, or an error that says what did not come.
export function within(promise, what, ms = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms / 1000} s for ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/// The arguments of an emitter's next event.
export function once(emitter, event, what = `the event "${event}"`) {
  const heard = new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
  return within(heard, what);
}

/// Calls `probe` until it returns something, with a pause between two calls that is too short to matter, unless a probe costs more than a wait.
export async function until(probe, what, ms = PATIENCE_MS, pauseMs = 5) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${ms / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/// What has arrived and was not looked at yet. Everything is kept from the start, so that nothing is missed between two waits.
export class Inbox {
  #items = [];
  #wake = () => {};

  push(item) {
    this.#items.push(item);
    this.#wake();
  }

  /// The next thing that arrives.
  async next(what) {
    await within(this.#until(1), what);
    return this.#items.shift();
  }

  /// The next `count` things.
  async take(count, what) {
    await within(this.#until(count), what).catch((error) => {
      throw new Error(`${error.message}; ${this.#items.length} of ${count} came`);
    });
    return this.#items.splice(0, count);
  }

  /// All that is there now.
  drain() {
    return this.#items.splice(0);
  }

  async #until(count) {
    while (this.#items.length < count) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }
}
