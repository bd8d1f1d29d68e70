// One subscription that survives bad weather, whatever mechanism carries it.
//
// A mechanism (see mechanisms.js) makes one attempt: it hears events until the connection is lost, and says why. A `Link` makes the next attempt, later each time,
// from where the last one ended; it notices a server that answers slowly, refuses or was restarted, and says so through `onState` and `onGap`.
// Nothing here touches the page.

/** After so long without an answer a person is told that the server is slow; after so long it counts as lost. Milliseconds. */
export const SLOW_MS = 3000;
const LOST_MS = 15000;

/** The pauses between attempts double from the first to the last. Milliseconds. */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 15000;

/** Why something failed, in words for a person. */
export class Lost extends Error {
  /**
   * @param {string} why
   * @param {object} more
   * @param {number} [more.retryAfter] seconds that the server asks to wait
   * @param {boolean} [more.isFinal] asking again would change nothing
   */
  constructor(why, { retryAfter = 0, isFinal = false } = {}) {
    super(why);
    this.retryAfter = retryAfter;
    this.isFinal = isFinal;
  }
}

/** What to wait before attempt number `failures + 1`, in milliseconds: with some chance in it, so that not everybody comes back at once. */
export function pauseBefore(failures, retryAfter = 0) {
  const pause = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures);
  return Math.max(retryAfter * 1000, pause * (0.75 + Math.random() / 2));
}

/** Resolves after `ms`, or at once when `signal` is aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** A cursor `ID` or `ID-EPOCH`, taken apart. */
export function parseCursor(cursor) {
  const [id, epoch] = String(cursor).split('-');
  return { id: Number(id), epoch };
}

/**
 * A request with its whole answer: `{ status, headers, text, bytes }`. `bytes` is what came: the head as it must have been, since every field of it is visible to
 * a page of the same origin, and the body. Whatever is not 2xx or 304 is thrown as `Lost`.
 *
 * @param {string} url
 * @param {RequestInit} init
 * @param {object} more
 * @param {number} [more.patience] milliseconds that the server may wait on purpose
 * @param {() => void} [more.onSlow]
 */
export async function request(url, init = {}, { patience = 0, onSlow = () => {} } = {}) {
  const abort = new AbortController();
  init.signal?.addEventListener('abort', () => abort.abort(), { once: true });
  let gaveUp = false;
  const slow = setTimeout(onSlow, patience + SLOW_MS);
  const lost = setTimeout(() => ((gaveUp = true), abort.abort()), patience + LOST_MS);
  try {
    // `no-store`: the browser's own cache would answer 304 by itself, and let one tab wait for another.
    const response = await inTurn(() => fetch(url, { cache: 'no-store', ...init, signal: abort.signal }));
    const body = await response.arrayBuffer();
    const text = new TextDecoder().decode(body);
    let head = `HTTP/1.1 ${response.status} ${response.statusText}\r\n\r\n`.length;
    response.headers.forEach((value, name) => (head += `${name}: ${value}\r\n`.length));
    const answer = { status: response.status, headers: response.headers, text, bytes: head + body.byteLength };
    if (!response.ok && response.status !== 304) throw refused(answer);
    return answer;
  } catch (error) {
    if (error instanceof Lost || init.signal?.aborted) throw error;
    throw new Lost(gaveUp ? `No answer came within ${LOST_MS / 1000} s.` : 'The server cannot be reached.');
  } finally {
    clearTimeout(slow);
    clearTimeout(lost);
  }
}

/** A refusal in the server's own words; they are text like any other. */
function refused({ status, headers, text }) {
  const sentence = text.split('\n')[0].slice(0, 300);
  const isFinal = status >= 400 && status < 500 && ![408, 425, 429].includes(status);
  const lost = new Lost(`The server refuses (${status}): ${sentence}`, { retryAfter: Number(headers.get('Retry-After')) || 0, isFinal });
  lost.status = status;
  return lost;
}

// A server that serves one connection after the other gets one request after the other, so that the browser needs no second connection.
let isInTurn = false;
let last = Promise.resolve();

function inTurn(ask) {
  if (!isInTurn) return ask();
  const answer = last.then(ask);
  last = answer.catch(() => {});
  return answer;
}

/** What there is to know of the server: its /about.json. */
export async function about(onSlow) {
  const facts = JSON.parse((await request('/about.json', {}, { onSlow })).text);
  isInTurn = !facts.serves_together;
  return facts;
}

/**
 * Asks until there is an answer, and says how it stands as a `Link` does. What is refused for good is thrown.
 *
 * @param {(onSlow: () => void) => Promise} ask
 * @param {(state: object) => void} onState
 * @param {{tryNow?: () => void}} handle gets a `tryNow` that ends a pause
 */
export async function persist(ask, onState, handle = {}) {
  for (let failures = 0; ; failures += 1) {
    const state = { phase: 'connecting', isSlow: false, why: '', retryAt: 0 };
    onState(state);
    try {
      return await ask(() => onState({ ...state, isSlow: true }));
    } catch (error) {
      if (!(error instanceof Lost) || error.isFinal) throw error;
      const pause = pauseBefore(failures, error.retryAfter);
      onState({ ...state, phase: 'waiting', why: error.message, retryAt: Date.now() + pause });
      const waiting = new AbortController();
      handle.tryNow = () => waiting.abort();
      await sleep(pause, waiting.signal);
    }
  }
}

/** Publishes by POST; the number of the event. */
export async function post(topic, data, event, more) {
  const name = event ? `&event=${encodeURIComponent(event)}` : '';
  const init = { method: 'POST', body: data, headers: { 'Content-Type': 'text/plain; charset=utf-8' } };
  return JSON.parse((await request(`/publish?topic=${encodeURIComponent(topic)}${name}`, init, more)).text).id;
}

/**
 * Subscribes to a topic, for as long as the page wants.
 *
 * @param {object} mechanism one of mechanisms.js
 * @param {object} options
 * @param {string} options.topic
 * @param {string|null} [options.cursor] the last event that is known, as `ID` or `ID-EPOCH`; `0`: everything that is held; null: only what comes from now on
 * @param {string[]} [options.events] names of events, beside `message`, that an event stream has to listen for
 * @param {number} [options.every] milliseconds between two short polls
 * @param {(event: {id, epoch, event, data}) => void} options.onEvent `data` is null where it is no text
 * @param {(gap: {missed: number, restarted: boolean}) => void} [options.onGap] events that can no longer be had, or a server that has begun anew
 * @param {(state: {phase: 'connecting'|'live'|'waiting'|'closed', isSlow: boolean, why: string, retryAt: number}) => void} [options.onState]
 * @param {(traffic: {what: 'request'|'answer'|'aside'|'bytes'|'sent'|'end', bytes: number, isEmpty: boolean}) => void} [options.onTraffic]
 */
export class Link {
  constructor(mechanism, { topic, cursor = null, events = [], every = 1000, onEvent, onGap = () => {}, onState = () => {}, onTraffic = () => {} }) {
    Object.assign(this, { mechanism, topic, events, every, onEvent, onGap, onState, onTraffic });
    this.id = null;
    this.epoch = undefined;
    if (cursor !== null) Object.assign(this, parseCursor(cursor));
    this.state = { phase: 'connecting', isSlow: false, why: '', retryAt: 0 };
    this.closing = new AbortController();
    // Whoever subscribes has the link before it hears of it.
    queueMicrotask(() => this.run());
  }

  /** The last event that was heard, for `since=`; null: none, and none is wanted of before. */
  get cursor() {
    if (this.id === null) return null;
    return this.epoch ? `${this.id}-${this.epoch}` : String(this.id);
  }

  async run() {
    let failures = 0;
    while (!this.closing.signal.aborted) {
      this.attempt = new AbortController();
      this.signal = this.attempt.signal;
      this.change({ phase: 'connecting', isSlow: false, retryAt: 0 });
      let lost;
      try {
        await this.mechanism.attempt(this);
        lost = new Lost('The connection ended.');
      } catch (error) {
        lost = error instanceof Lost ? error : new Lost(`This page failed: ${error.message}`);
      }
      this.attempt.abort();
      this.onTraffic({ what: 'end', bytes: 0, isEmpty: false });
      if (this.closing.signal.aborted) break;
      failures = this.state.phase === 'live' ? 0 : failures + 1;
      const pause = pauseBefore(failures, lost.retryAfter);
      this.change({ phase: 'waiting', isSlow: false, why: lost.message, retryAt: Date.now() + pause });
      this.waiting = new AbortController();
      await sleep(pause, this.waiting.signal);
    }
    this.change({ phase: 'closed', isSlow: false, why: '', retryAt: 0 });
  }

  change(state) {
    this.state = { ...this.state, ...state };
    this.onState(this.state);
  }

  /** Ends the pause between two attempts. */
  tryNow() {
    this.waiting?.abort();
  }

  /** Ends the subscription. */
  close() {
    this.closing.abort();
    this.attempt?.abort();
    this.waiting?.abort();
  }

  // What follows is for mechanisms.

  /** The address of the topic under `path`. */
  url(path, parameters = {}, cursorName = 'since') {
    const url = new URL(path, location.href);
    url.searchParams.set('topic', this.topic);
    if (this.cursor !== null) url.searchParams.set(cursorName, this.cursor);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    return url.href;
  }

  /** A request of this attempt, counted. */
  async fetch(url, init = {}, patience = 0) {
    this.onTraffic({ what: 'request', bytes: 0, isEmpty: false });
    const answer = await request(url, { ...init, signal: this.signal }, { patience, onSlow: () => this.change({ isSlow: true }) });
    const isEmpty = answer.status !== 200 || answer.text.endsWith('"events":[]}');
    this.onTraffic({ what: 'answer', bytes: answer.bytes, isEmpty });
    this.answered();
    return answer;
  }

  /** Something was asked for that is not a fetch: gives a function that says that the answer has come. */
  ask(fail) {
    this.onTraffic({ what: 'request', bytes: 0, isEmpty: false });
    const slow = setTimeout(() => this.change({ isSlow: true }), SLOW_MS);
    const lost = setTimeout(() => fail(new Lost(`No answer came within ${LOST_MS / 1000} s.`)), LOST_MS);
    const stop = () => (clearTimeout(slow), clearTimeout(lost));
    this.signal.addEventListener('abort', stop, { once: true });
    return stop;
  }

  /** The server has answered: the subscription is good. */
  answered() {
    if (this.state.phase !== 'live' || this.state.isSlow) this.change({ phase: 'live', isSlow: false, why: '' });
  }

  /** So many bytes came of which nobody else tells. */
  received(bytes, isEmpty = false) {
    this.onTraffic({ what: 'bytes', bytes, isEmpty });
  }

  /** Takes a poll's answer, or what the other mechanisms tell of the same: where the topic is, what is missing, what is new. */
  take({ newest, epoch, missed = 0, restarted = false, events = [] }) {
    const isOther = (epoch && this.epoch && epoch !== this.epoch) || newest < this.id;
    if (missed || restarted || isOther) this.onGap({ missed, restarted: restarted || Boolean(isOther) });
    if (isOther || restarted) this.id = 0;
    this.epoch = epoch ?? this.epoch;
    for (const event of events) this.hear(event);
    // Without a cursor the first answer says where now is.
    this.id ??= newest;
    return this.id < newest;
  }

  /** Takes an event, unless it was heard before. */
  hear({ id, event, data = null }) {
    if (this.id !== null && id <= this.id) return;
    this.id = id;
    this.onEvent({ id, epoch: this.epoch, event, data });
  }

  /** Why there was no connection: browsers do not tell a page what a WebSocket or an event stream was answered, but a poll they do. */
  async whyNot(otherwise) {
    const url = `/poll?topic=${encodeURIComponent(this.topic)}`;
    const why = await request(url, { signal: this.signal }).then(() => null, (error) => error);
    return why instanceof Lost ? why : new Lost(otherwise);
  }
}
