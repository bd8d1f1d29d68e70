// The page `/chat`: one room for everybody, each tab by the mechanism of its choice.
//
// For tests: the address may say `?by=poll|longpoll|sse|websocket|socketio` and `?name=NAME`. Test ids: `name`, `mechanism` (select), `status` (with `data-phase`:
// connecting, live, slow, waiting) and in it `try-now`, `message-list`, `text`, `send`. In the list are `message`s, each with `data-message-id` (the message's own id, or `EVENT-EPOCH` of
// one that has none) and `data-state` (`pending`, `published`, `refused`), holding `author`, `content`, `meta`; and `note`s, with `data-note`: `missed`, `restarted`.
//
// A message is JSON: `{"id": UUID, "name": …, "text": …}`. Any other text on the topic, from whichever client, is shown as somebody's.

import { about, persist } from './link.js';
import { MECHANISMS, mechanism, subscribe } from './mechanisms.js';
import { Outbox } from './outbox.js';
import { StatusLine, chooser, clip, find, make, remembered, uuid } from './view.js';

const TOPIC = 'chat';
const EVENT = 'chat message - server';

/** A tab shows as many as this; a text so long. */
const MAX_SHOWN = 1000;
const MAX_TEXT = 4000;
const MAX_ID = 100;

const list = find('message-list');
const shown = new Map();
let link = null;
let problem = null;

const outbox = new Outbox({
  link: () => link,
  event: EVENT,
  onRefused: (message, why) => settleElement(message.id, 'refused', why),
  onProblem: (now) => ((problem = now), showStatus()),
});
const handle = {};
const status = new StatusLine(find('status'), () => (handle.tryNow?.(), link?.tryNow(), outbox.tryNow()));

const name = find('name');
name.value = (remembered.get('name') ?? '').slice(0, name.maxLength);
name.addEventListener('input', () => remembered.set('name', name.value.trim()));
find('send').form.addEventListener('submit', submit);
persist(about, (state) => status.show(state), handle).then(({ serves_together: isAny }) => {
  // A server that serves one connection after the other can only be asked.
  chooser(find('mechanism'), isAny ? MECHANISMS : MECHANISMS.slice(0, 1), isAny ? 'websocket' : 'poll', listen);
  listen(find('mechanism').value);
});

/** Listens by another mechanism, from where this tab is. */
function listen(by) {
  const cursor = link?.cursor ?? '0';
  link?.close();
  let isFirst = link === null;
  const mine = subscribe(by, {
    topic: TOPIC,
    cursor,
    events: [EVENT],
    onEvent: show,
    onGap({ missed, restarted }) {
      if (restarted) note('restarted', 'The server was started again. What follows is all that it holds.');
      if (missed) note('missed', isFirst ? `${missed} earlier messages are no longer held.` : `${missed} messages were missed: they are no longer held.`);
    },
    onState(state) {
      if (link !== mine) return;
      isFirst &&= state.phase !== 'waiting';
      showStatus(state);
      if (state.phase === 'live') outbox.tryNow();
    },
  });
  link = mine;
  const sentence = `${mechanism(by).title} ${mechanism(by).about}.`;
  find('how').textContent = sentence[0].toUpperCase() + sentence.slice(1);
}

function submit(event) {
  event.preventDefault();
  const text = find('text').value.trim();
  if (!text) return;
  const message = { id: uuid(), name: name.value.trim(), text };
  append(message.id, makeMessage({ ...message, isMine: true, state: 'pending', meta: 'not published yet' }), true);
  outbox.add(message);
  find('text').value = '';
  find('text').focus();
}

/** Shows what was published, unless it is there. One that this tab has sent is now where it belongs. */
function show({ id, epoch, event, data }) {
  const message = read(data) ?? { id: epoch ? `${id}-${epoch}` : String(id), name: '', text: data ?? '(binary data)', isPlain: true };
  const before = shown.get(message.id);
  if (before && before.dataset.state !== 'pending') return outbox.settle(message.id);
  before?.remove();
  const isMine = Boolean(before);
  append(message.id, makeMessage({ ...message, isMine, state: 'published', meta: `#${id} ${event === EVENT ? '' : clip(event)}` }), false);
  outbox.settle(message.id);
}

/** The message in `data`, if it is one. */
function read(data) {
  try {
    const { id, name: author, text } = JSON.parse(data);
    const isOne = typeof id === 'string' && id.length > 0 && id.length <= MAX_ID && typeof text === 'string';
    return isOne ? { id, name: typeof author === 'string' ? author : '', text } : null;
  } catch {
    return null;
  }
}

function makeMessage({ id, name: author, text, isMine, isPlain, state, meta }) {
  const part = (tag, testid, content) => {
    const element = make(tag, {}, content);
    element.dataset.testid = testid;
    return element;
  };
  const item = make('li', { className: `${state}${isMine ? ' mine' : ''}` },
    part('b', 'author', clip(author) || (isPlain ? 'anonymous' : 'somebody')), part('span', 'content', text.slice(0, MAX_TEXT)), part('small', 'meta', meta));
  Object.assign(item.dataset, { testid: 'message', messageId: id, state });
  return item;
}

function settleElement(id, state, meta) {
  const item = shown.get(id);
  if (!item) return;
  item.classList.replace('pending', state);
  item.dataset.state = state;
  find('meta', item).textContent = meta;
}

function note(kind, text) {
  const item = make('li', { className: 'note' }, text);
  Object.assign(item.dataset, { testid: 'note', note: kind });
  append(null, item, false);
}

/** What is published stands in its order; what is on its way stays at the end. */
function append(id, item, isPending) {
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  if (id !== null) shown.set(id, item);
  const firstPending = isPending ? null : list.querySelector('[data-state="pending"]');
  list.insertBefore(item, firstPending);
  while (list.children.length > MAX_SHOWN) {
    const oldest = list.firstElementChild;
    // Its id stays known, so that it does not come a second time.
    oldest.remove();
  }
  if (isAtEnd || isPending) list.scrollTop = list.scrollHeight;
}

function showStatus(state = link?.state) {
  if (!state) return;
  const waiting = outbox.queue.length;
  const unsent = waiting ? ` ${waiting === 1 ? 'One message waits' : `${waiting} messages wait`} to be sent.` : '';
  if (problem && state.phase === 'live') return status.show({ ...problem, phase: 'waiting', isSlow: false, why: `${problem.why}${unsent}` });
  const why = state.phase === 'waiting' ? `${state.why}${unsent}` : state.why;
  status.show({ ...state, why }, `Connected by ${link?.mechanism.title}.`);
}
