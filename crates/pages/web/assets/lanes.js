// The picture: a lane for each mechanism, on which its requests and what it hears pass by.
//
// A bar is a request that waits for its answer, a hollow circle an answer with nothing in it, a dot an event, a triangle something that this page said on the
// same connection. A line through all lanes stands where an event was published: the distance from it to a lane's dot is what that mechanism took.

/** How much time a lane shows, in milliseconds: less on a screen so many pixels wide. */
const SHOWN_MS = 20000;
const NARROW_SHOWN_MS = 8000;
const NARROW_PX = 560;

/** Between two drawings: enough to see things move, and what is enough for whoever wants nothing to move. */
const FRAME_MS = 50;
const STILL_FRAME_MS = 1000;

export class Lanes {
  /** @param {HTMLCanvasElement} canvas
   *  @param {{name: string, title: string}[]} mechanisms */
  constructor(canvas, mechanisms) {
    this.canvas = canvas;
    this.lanes = new Map(mechanisms.map(({ name, title }) => [name, { title, colour: `--${name}`, bars: [], marks: [] }]));
    this.published = new Map();
    const still = matchMedia('(prefers-reduced-motion: reduce)');
    let drawn = 0;
    const frame = (now) => {
      if (now - drawn >= (still.matches ? STILL_FRAME_MS : FRAME_MS)) {
        drawn = now;
        this.draw();
      }
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** Takes note of what a link tells of its traffic. */
  traffic(name, { what, isEmpty }) {
    const lane = this.lanes.get(name);
    const now = Date.now();
    const last = lane.bars.at(-1);
    if (what === 'request') lane.bars.push({ from: now, to: null });
    if ((what === 'answer' || what === 'end') && last && last.to === null) last.to = now;
    if ((what === 'answer' && isEmpty) || what === 'aside') lane.marks.push({ at: now, kind: 'empty' });
    if (what === 'sent') lane.marks.push({ at: now, kind: 'sent' });
  }

  /** Takes note of an event that was published at `publishedAt`, in Unix milliseconds, and has just come. */
  heard(name, id, publishedAt) {
    this.lanes.get(name).marks.push({ at: Date.now(), kind: 'event' });
    if (Number.isFinite(publishedAt)) this.published.set(id, publishedAt);
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const context = canvas.getContext('2d');
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `13px ${getComputedStyle(canvas).fontFamily}`;

    const now = Date.now();
    const [left, right] = [12, width - 14];
    const shown = width < NARROW_PX ? NARROW_SHOWN_MS : SHOWN_MS;
    const x = (at) => right - ((now - at) / shown) * (right - left);
    const bottom = height - 22;
    const laneHeight = bottom / this.lanes.size;
    this.forget(now - shown);

    context.strokeStyle = colour('--rule');
    context.fillStyle = colour('--faint');
    context.lineWidth = 1;
    for (const at of this.published.values()) line(context, x(at), 0, x(at), bottom);
    context.textAlign = 'center';
    const step = width < NARROW_PX ? 2 : 5;
    for (let seconds = step; seconds * 1000 < shown; seconds += step) {
      context.fillText(`−${seconds} s`, x(now - seconds * 1000), height - 6);
    }
    context.textAlign = 'right';
    context.fillText('now', right + 10, height - 6);

    let top = 0;
    for (const lane of this.lanes.values()) {
      const y = top + laneHeight * 0.66;
      const mine = colour(lane.colour);
      context.textAlign = 'left';
      context.fillStyle = mine;
      context.fillText(lane.title, left, top + laneHeight * 0.3);
      context.strokeStyle = colour('--rule');
      line(context, left, y, right, y);
      context.strokeStyle = context.fillStyle = mine;
      context.globalAlpha = 0.35;
      for (const { from, to } of lane.bars) {
        const begin = Math.max(left, x(from));
        // One that follows at once is still seen to be another.
        context.fillRect(begin, y - 4, Math.max(1.5, x(to ?? now) - begin - (to === null ? 0 : 2)), 8);
      }
      context.globalAlpha = 1;
      for (const { at, kind } of lane.marks) mark(context, kind, x(at), y, colour('--paper'));
      top += laneHeight;
    }
  }

  forget(before) {
    for (const lane of this.lanes.values()) {
      lane.bars = lane.bars.filter(({ to }) => to === null || to > before);
      lane.marks = lane.marks.filter(({ at }) => at > before);
    }
    for (const [id, at] of this.published) if (at <= before) this.published.delete(id);
  }
}

function line(context, x1, y1, x2, y2) {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}

function mark(context, kind, x, y, paper) {
  context.beginPath();
  context.lineWidth = 1.5;
  if (kind === 'sent') {
    context.moveTo(x - 6, y - 6);
    context.lineTo(x + 6, y - 6);
    context.lineTo(x, y - 16);
    context.closePath();
  } else {
    context.arc(x, y, kind === 'event' ? 5 : 3, 0, 2 * Math.PI);
  }
  if (kind === 'empty') {
    const own = context.fillStyle;
    context.fillStyle = paper;
    context.fill();
    context.fillStyle = own;
    context.stroke();
  } else {
    context.fill();
  }
}
