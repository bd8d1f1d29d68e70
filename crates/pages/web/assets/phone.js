// The page `/login/phone?code=CODE`: what the phone opens.
//
// For tests: `code`, `name`, `confirm`, and `state`, with `data-state`: asking, sending, confirmed, used, expired, unknown, refused, failed.

import { Lost, request } from './link.js';
import { clip, find, remembered } from './view.js';

/** What the server's answers mean to a person. */
const REFUSALS = {
  400: ['refused', null],
  404: ['unknown', 'This code is not known here. Is it from this server, and of today?'],
  409: ['used', 'This code has been used already.'],
  410: ['expired', 'The code has expired. Get a new one on the other page.'],
};

const code = remembered.get('code') ?? '';
find('code').textContent = clip(code) || '(none)';
say('asking', '');
if (!code) {
  say('unknown', 'There is no code in the address of this page. Scan it again.', 'bad');
  find('confirm').disabled = true;
}

find('confirm').form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const name = find('name').value.trim();
  if (!name) return say('refused', 'Please say who you are.', 'bad');
  find('confirm').disabled = true;
  say('sending', 'Sending …');
  try {
    const init = { method: 'POST', body: name, headers: { 'Content-Type': 'text/plain; charset=utf-8' } };
    await request(`/login/codes/${encodeURIComponent(code)}`, init, { onSlow: () => say('sending', 'The server answers slowly.') });
    say('confirmed', `Confirmed. The other page is signed in as ${clip(name)}.`, 'good');
  } catch (error) {
    if (!(error instanceof Lost)) throw error;
    const [state, text] = REFUSALS[error.status] ?? ['failed', null];
    say(state, text ?? `${error.message}${state === 'failed' ? ' Try again.' : ''}`, 'bad');
    // A name can be changed, and a server come back.
    find('confirm').disabled = !['refused', 'failed'].includes(state);
  }
});

function say(state, text, kind = '') {
  const place = find('state');
  Object.assign(place, { textContent: text, className: `outcome ${kind}`, hidden: !text });
  place.dataset.state = state;
}
