// The page `/`: the tick by all mechanisms side by side.
//
// For tests: a row `[data-mechanism="poll|longpoll|sse|websocket|socketio"]` for each mechanism, whose `data-phase` is that of its link (`absent`: this server does not
// serve it), with the test ids `events`, `age`, `requests`, `empty`, `bytes`, `state`. Test ids of the page: `status` (with `data-phase`), `model`, `about`, `every` (select),
// `publish` (checkbox), `say` (its buttons have the values post, websocket, socketio), `lanes`, `try-now`.

import { Lost, about, persist, post, sleep } from './link.js';
import { MECHANISMS, subscribe } from './mechanisms.js';
import { Lanes } from './lanes.js';
import { StatusLine, find, make } from './view.js';

const TOPIC = 'tick';

/** Without a tick for so long the page publishes some itself. Milliseconds. */
const PATIENCE_MS = 2500;
const OWN_TICK_MS = 1000;

/** The ages that the median is taken of. */
const AGES = 100;

const rows = new Map();
const lanes = new Lanes(find('lanes'), MECHANISMS);
const handle = {};
const status = new StatusLine(find('status'), () => (handle.tryNow?.(), rows.forEach(({ link }) => link?.tryNow())));
const publishing = find('publish');
let facts;
let lastTick = Date.now();
let publishError = '';

begin();

async function begin() {
  for (const mechanism of MECHANISMS) rows.set(mechanism.name, makeRow(mechanism));
  facts = await persist(about, (state) => status.show(state), handle);
  showFacts();
  for (const { name } of MECHANISMS) {
    if (facts.serves_together || name === 'poll') listen(name);
    else showState(rows.get(name), { phase: 'absent', why: 'not served: this server has one connection at a time, and it must not wait' });
  }
  setInterval(showAll, 200);
  publishOwn();
}

function makeRow({ name, title, about: what, counted }) {
  const cell = (testid, label, text = '0') => {
    const td = make('td', {}, make('span', {}, text), make('small', {}));
    td.firstChild.dataset.testid = testid;
    td.dataset.label = label;
    return td;
  };
  const state = make('td', { className: 'words' }, '');
  state.dataset.testid = 'state';
  const element = make('tr', {}, make('th', { scope: 'row' }, title, make('small', {}, what)),
    cell('events', 'events'), cell('age', 'age on arrival', '–'), cell('requests', 'requests'), cell('empty', 'in vain'), cell('bytes', 'bytes'), state);
  find('bytes', element).nextSibling.textContent = counted;
  element.dataset.mechanism = element.dataset.colour = name;
  find('mechanisms').append(element);
  return { element, events: 0, requests: 0, empty: 0, bytes: 0, ages: [], state: { phase: 'connecting' } };
}

function listen(name) {
  const row = rows.get(name);
  row.link?.close();
  row.link = subscribe(name, {
    topic: TOPIC,
    cursor: row.link?.cursor ?? null,
    every: Number(find('every').value),
    onEvent({ id, data }) {
      const publishedAt = Number(data);
      row.events += 1;
      lastTick = Date.now();
      lanes.heard(name, id, publishedAt);
      if (Number.isFinite(publishedAt)) row.ages = [...row.ages.slice(1 - AGES), Date.now() - publishedAt];
    },
    onGap: ({ restarted }) => restarted && askAgain(),
    onState: (state) => showState(row, state),
    onTraffic(traffic) {
      if (traffic.what === 'request' || traffic.what === 'aside') row.requests += 1;
      if ((traffic.what === 'answer' || traffic.what === 'aside') && traffic.isEmpty) row.empty += 1;
      row.bytes += traffic.bytes;
      lanes.traffic(name, traffic);
    },
  });
}

find('every').addEventListener('change', () => facts && listen('poll'));

/** Another server may be another model. */
async function askAgain() {
  facts = await about().catch(() => facts);
  showFacts();
}

/** Publishes ticks while that is switched on; it switches itself on where nobody else does. */
async function publishOwn() {
  let wasAsked = false;
  publishing.addEventListener('change', () => (wasAsked = true));
  for (;;) {
    // A server that ticks more slowly ticks all the same.
    const patience = Math.max(PATIENCE_MS, (facts.tick_ms ?? 0) * 2.5);
    const isSomeoneLive = [...rows.values()].some(({ state }) => state.phase === 'live');
    if (!isSomeoneLive) lastTick = Date.now();
    if (!wasAsked && !publishing.checked && Date.now() - lastTick > patience) publishing.checked = true;
    if (publishing.checked && isSomeoneLive) await say('post');
    await sleep(publishing.checked ? OWN_TICK_MS : 250);
  }
}

async function say(by) {
  try {
    const data = String(Date.now());
    const link = rows.get(by)?.link;
    if (by === 'post') await post(TOPIC, data);
    else if (link) await link.mechanism.publish(link, data);
    else throw new Lost('This server does not serve it.');
    publishError = '';
  } catch (error) {
    publishError = `Not published: ${error.message}`;
  }
}

find('say').addEventListener('click', ({ target }) => target.value && say(target.value));

function showState(row, state) {
  row.state = state;
  row.element.dataset.phase = state.phase;
}

/** All figures, a few times a second: they change too often to be shown as they do. */
function showAll() {
  for (const { element, events, requests, empty, bytes, ages, state } of rows.values()) {
    if (state.phase === 'absent') {
      find('state', element).textContent = state.why;
      continue;
    }
    const show = (testid, text) => {
      const place = find(testid, element);
      if (place.textContent !== text) place.textContent = text;
    };
    show('events', String(events));
    show('requests', String(requests));
    show('empty', String(empty));
    show('bytes', bytes.toLocaleString('en'));
    if (ages.length) {
      show('age', `${ages.at(-1)} ms`);
      find('age', element).nextSibling.textContent = `(${[...ages].sort((a, b) => a - b)[ages.length >> 1]} ms)`;
    }
    const seconds = Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000));
    show('state', { connecting: 'connecting …', live: state.isSlow ? 'answers slowly' : 'connected', waiting: `${state.why} Trying again in ${seconds} s.` }[state.phase]);
  }
  showStatus();
}

/** The line above all: the worst of them, or where the ticks come from. */
function showStatus() {
  const states = [...rows.values()].map(({ state }) => state).filter(({ phase }) => phase !== 'absent');
  const waiting = states.filter(({ phase }) => phase === 'waiting');
  const slow = states.find(({ isSlow }) => isSlow);
  const connecting = states.find(({ phase }) => phase === 'connecting');
  const own = 'No tick comes from the server (serve --tick 1s would send some): this page publishes one every second itself.';
  const silent = 'No tick comes: switch on that this page publishes some, or start the server with --tick 1s.';
  const isSilent = Date.now() - lastTick > Math.max(PATIENCE_MS, (facts.tick_ms ?? 0) * 2.5);
  const fine = facts.tick_ms ? `The server ticks every ${facts.tick_ms / 1000} s.` : 'Somebody publishes ticks.';
  const words = publishError || (publishing.checked ? own : isSilent ? silent : fine);
  const state = waiting.length ? waiting[0] : slow ?? connecting ?? states[0];
  status.show(state, words);
}

function showFacts() {
  const bytes = (count) => `${count.toLocaleString('en')} bytes`;
  const seconds = (ms) => (ms === null ? 'off' : `${ms / 1000} s`);
  find('model').textContent = `: ${facts.model}`;
  document.title = `Switchboard: ${facts.model}`;
  find('socketio-path').textContent = facts.socketio_path;
  const list = [
    ['model', facts.model],
    ['longest message', bytes(facts.max_message_bytes)],
    ['a reader may fall behind by', bytes(facts.max_unsent_bytes)],
    ['held for those who come later', `${facts.history_events.toLocaleString('en')} events a topic, ${bytes(facts.history_bytes)} in all, ${facts.max_topics.toLocaleString('en')} topics`],
    ['connections', facts.serves_together ? facts.max_connections ?? 'as many as the machine allows' : 'one after the other'],
    ['tick', facts.tick_ms === null ? 'none (serve --tick 1s)' : `every ${seconds(facts.tick_ms)}`],
    ['heartbeat', `WebSocket: ${seconds(facts.heartbeat_ms)}; event stream: ${seconds(facts.sse_heartbeat_ms)}`],
  ];
  find('about').replaceChildren(...list.flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, String(value))]));
}
