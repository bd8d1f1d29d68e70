// What a tab wants to say and the server may not have yet: each message is sent until it is known to be published, and published once.

import { Lost, SLOW_MS, pauseBefore, request, sleep } from './link.js';

/** A message that was said on a WebSocket comes back within so long, or is said again. Milliseconds. */
const RETURN_MS = 8000;

export class Outbox {
  /**
   * @param {object} options
   * @param {() => object} options.link the subscription of the moment
   * @param {string} options.event
   * @param {(message: object, why: string) => void} options.onRefused it will never be sent
   * @param {(problem: {why: string, retryAt: number}|null) => void} options.onProblem why it is not sent yet
   */
  constructor({ link, event, onRefused, onProblem }) {
    Object.assign(this, { link, event, onRefused, onProblem });
    this.queue = [];
  }

  /** Sends `message`, an object with an `id`, behind those that wait. */
  add(message) {
    this.queue.push({ message, data: JSON.stringify(message), since: null });
    this.flush();
  }

  /** The message with this id has been seen: it is published. */
  settle(id) {
    this.queue = this.queue.filter(({ message }) => message.id !== id);
    this.seen?.(id);
  }

  /** Ends a pause: the server may be back. */
  tryNow() {
    this.waiting?.abort();
    this.flush();
  }

  /** Sends what waits, one after the other, as long as there is a connection. */
  async flush() {
    if (this.isBusy) return;
    this.isBusy = true;
    this.onProblem(null);
    let failures = 0;
    while (this.queue.length > 0 && this.link()?.state.phase === 'live') {
      const first = this.queue[0];
      try {
        await this.send(first);
        this.settle(first.message.id);
        this.onProblem(null);
        failures = 0;
      } catch (error) {
        if (!(error instanceof Lost)) throw error;
        if (error.isFinal) {
          this.settle(first.message.id);
          this.onRefused(first.message, error.message);
          continue;
        }
        failures += 1;
        const pause = pauseBefore(failures, error.retryAfter);
        this.onProblem({ why: error.message, retryAt: Date.now() + pause });
        this.waiting = new AbortController();
        await sleep(pause, this.waiting.signal);
      }
    }
    this.isBusy = false;
  }

  async send(entry) {
    const link = this.link();
    // Where a connection is lost before the answer, nobody can tell whether the message was published. The history can.
    if (entry.since !== null && (await this.isPublished(entry))) return;
    entry.since ??= link.cursor ?? '0';
    const slow = setTimeout(() => link.change({ isSlow: true }), SLOW_MS);
    try {
      const isSeen = new Promise((resolve) => (this.seen = (id) => id === entry.message.id && resolve()));
      await link.mechanism.publish(link, entry.data, this.event);
      // A WebSocket gives no receipt: there it has to come back.
      if (link.mechanism.name !== 'websocket') return;
      await Promise.race([isSeen, sleep(RETURN_MS, link.signal)]);
      if (this.queue.includes(entry)) throw new Lost('The message has not come back.');
    } finally {
      clearTimeout(slow);
      if (link.state.isSlow) link.change({ isSlow: false });
    }
  }

  /** Whether what came after it was sent first holds the message. */
  async isPublished({ message, since }) {
    const id = JSON.stringify(message.id);
    for (let cursor = since; ; ) {
      const url = `/poll?topic=${encodeURIComponent(this.link().topic)}&since=${cursor}`;
      const { newest, epoch, events } = JSON.parse((await request(url)).text);
      if (events.some(({ data }) => data?.includes(id))) return true;
      const last = events.at(-1);
      if (!last || last.id >= newest) return false;
      cursor = epoch ? `${last.id}-${epoch}` : last.id;
    }
  }
}
