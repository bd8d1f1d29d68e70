// The page `/login`: it shows a code and learns that a phone has confirmed it.
//
// For tests: the address may say `?by=poll|longpoll|sse|websocket`. Test ids: `by` (select), `status` (with `data-phase`), `code`, `link`, `qr`, `countdown`, `new-code`, and `state`, with
// `data-state`: asking, waiting, confirmed, expired, lost.

import { Lost, about, persist, request } from './link.js';
import { MECHANISMS, mechanism, subscribe } from './mechanisms.js';
import { StatusLine, chooser, clip, find } from './view.js';

/** Those that wait for something without having more to say than HTTP has. */
const WAYS = MECHANISMS.filter(({ name }) => name !== 'socketio');

let link = null;
let code = null;
let round = 0;
let countdown = 0;

/** Whether the server serves several connections at once, and so a picture beside the rest. */
let isTogether = true;

const handle = {};
const status = new StatusLine(find('status'), () => (handle.tryNow?.(), link?.tryNow()));
const showState = (state) => status.show(state);
find('new-code').addEventListener('click', begin);
persist(about, showState, handle).then((facts) => {
  isTogether = facts.serves_together;
  // A server that serves one connection after the other can only be asked.
  chooser(find('by'), isTogether ? WAYS : WAYS.slice(0, 1), isTogether ? 'longpoll' : 'poll', () => code && listen());
  begin();
});

/** Asks for a code until there is one, and listens for what becomes of it. */
async function begin() {
  const mine = (round += 1);
  forget();
  say('asking', 'Asking for a code …');
  try {
    const answer = await persist((onSlow) => request('/login/codes', { method: 'POST' }, { onSlow }), showState, handle);
    if (mine !== round) return;
    code = JSON.parse(answer.text);
    showCode();
    // Only then is the connection free.
    if (!isTogether) await find('qr').decode().catch(() => {});
    if (mine === round) listen();
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    say('lost', error.message, 'bad', true);
  }
}

function listen() {
  const cursor = link?.topic === code.topic ? link.cursor : '0';
  link?.close();
  const by = find('by').value;
  const mine = subscribe(by, {
    topic: code.topic,
    cursor,
    events: ['confirmed', 'expired'],
    onEvent({ event, data }) {
      if (event === 'confirmed') finish('confirmed', `Signed in as ${clip(JSON.parse(data).name)}.`, 'good');
      if (event === 'expired') finish('expired', 'The code has expired.', 'bad', true);
    },
    onGap({ restarted }) {
      if (restarted) finish('lost', 'The server was started again and knows this code no more.', 'bad', true);
    },
    onState(state) {
      if (link === mine) status.show(state, `Waiting by ${mechanism(by).title}.`);
    },
  });
  link = mine;
  find('how').textContent = `${mechanism(by).title} ${mechanism(by).about}.`;
}

function showCode() {
  const address = new URL(`/login/phone?code=${encodeURIComponent(code.code)}`, location.href).href;
  Object.assign(find('qr'), { src: `/login/codes/${encodeURIComponent(code.code)}/qr.svg`, hidden: false });
  find('qr').classList.remove('gone');
  Object.assign(find('link'), { href: address, textContent: address });
  find('code').textContent = code.code;
  find('open').hidden = false;
  say('waiting', 'Waiting for your phone.');
  const ends = Date.now() + code.expires_in * 1000;
  const count = () => {
    const seconds = Math.max(0, Math.ceil((ends - Date.now()) / 1000));
    find('countdown').textContent = seconds ? `, good for ${seconds} s.` : '; its time is up.';
  };
  count();
  countdown = setInterval(count, 250);
}

/** It has come to its end, whichever. */
function finish(state, text, kind, isAgain = false) {
  forget();
  find('status').hidden = true;
  say(state, text, kind, isAgain);
}

function forget() {
  link?.close();
  link = code = null;
  clearInterval(countdown);
  find('qr').classList.add('gone');
  find('open').hidden = true;
  find('status').hidden = false;
}

function say(state, text, kind = '', isAgain = false) {
  const place = find('state');
  Object.assign(place, { textContent: text, className: `outcome ${kind}` });
  place.dataset.state = state;
  find('new-code').hidden = !isAgain;
}
