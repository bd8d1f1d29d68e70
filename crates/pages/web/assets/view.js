// What all pages show in the same way. Text from others only ever becomes `textContent`.

/** The element with this test id, which is also how the pages' own modules find their elements. */
export const find = (testid, within = document) => within.querySelector(`[data-testid="${testid}"]`);

/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A text that is shown at no more than `length` characters, on one line and without what would turn the direction of the text around it. */
export function clip(text, length = 40) {
  const plain = String(text).replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, ' ').trim();
  const characters = [...plain];
  return characters.length > length ? `${characters.slice(0, length - 1).join('')}…` : plain;
}

/** An id that no other message has: a UUID of version 4 (RFC 9562), also where `crypto.randomUUID` is not, on pages without TLS. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** Parameters of the page's address that it remembers: a reload, or another tab, begins where this one is. */
export const remembered = {
  get: (name) => new URLSearchParams(location.search).get(name),
  set(name, value) {
    const url = new URL(location.href);
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
    history.replaceState(null, '', url);
  },
};

/** Fills a choice with mechanisms, remembers what is chosen as `by`, and tells. */
export function chooser(select, mechanisms, otherwise, onChange) {
  select.replaceChildren(...mechanisms.map(({ name, title }) => make('option', { value: name }, title)));
  const wanted = remembered.get('by');
  select.value = mechanisms.some(({ name }) => name === wanted) ? wanted : otherwise;
  select.addEventListener('change', () => {
    remembered.set('by', select.value);
    onChange(select.value);
  });
}

/** A line that says how the connection is: `data-phase` is `connecting`, `live`, `slow` or `waiting`. Reads aloud what changes, not the countdown. */
export class StatusLine {
  constructor(element, tryNow) {
    this.element = element;
    this.text = make('span', { role: 'status' });
    this.text.setAttribute('aria-live', 'polite');
    this.countdown = make('span', { hidden: true });
    this.button = make('button', { type: 'button', hidden: true, onclick: () => tryNow() }, 'Try now');
    this.button.dataset.testid = 'try-now';
    element.replaceChildren(this.text, this.countdown, this.button);
  }

  /** Shows a link's state; `live` is what to say while all is well. */
  show({ phase, isSlow, why, retryAt }, live) {
    clearInterval(this.timer);
    const shown = isSlow && phase !== 'waiting' ? 'slow' : phase;
    this.element.className = `status ${shown}`;
    this.element.dataset.phase = shown;
    // It is said again only where it is not the same.
    const text = shown === 'slow' ? 'The server answers slowly.' : { connecting: why ? `${why} Trying again.` : 'Connecting …', live, waiting: why, closed: '' }[phase];
    if (this.text.textContent !== text) this.text.textContent = text;
    this.countdown.hidden = this.button.hidden = phase !== 'waiting';
    if (phase !== 'waiting') return;
    const count = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      this.countdown.textContent = `Trying again in ${seconds} s.`;
    };
    count();
    this.timer = setInterval(count, 250);
  }
}
