/** The board on the screen: what is drawn on it, and the pen in somebody's hand, by mouse, finger or keys. */

import { BOARD, PENS } from './drawing.js';

/** @import {Sharing} from './sharing.js' */
/** @import {Stroke} from './drawing.js' */

/** Points that are closer than this to the one before, in units of the board, are left out. */
const NEAR = 3;

/** How far an arrow key moves the pen, in units of the board; with Shift. */
const STEP = 8;
const LONG_STEP = 40;

/** What the host has not told yet is drawn as faint as this. */
const FAINT = 0.4;

/** Hues that lie well apart however many there are: each is a golden angle further. */
const FIRST_HUE = 178;
const GOLDEN_ANGLE = 137.508;

/** The colour of a client, as an angle. @param {number} id */
export function hueOf(id) {
  return Math.round((FIRST_HUE + id * GOLDEN_ANGLE) % 360);
}

const dark = matchMedia('(prefers-color-scheme: dark)');

export class BoardCanvas {
  /** The width of what is drawn from now on. */
  pen = 1;

  // Fixed after construction.
  #sharing;
  #canvas;
  #context;
  #cursor;

  /** Under way. @type {{stroke: Stroke, pointer: number} | null} */ #drawing = null;
  /** Where the keys' pen is. */ #at = { x: BOARD.width / 2, y: BOARD.height / 2 };
  #frame = 0;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} cursor  Shows where the keys' pen is.
   * @param {Sharing} sharing
   */
  constructor(canvas, cursor, sharing) {
    this.#canvas = canvas;
    this.#context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d'));
    this.#cursor = cursor;
    this.#sharing = sharing;
    new ResizeObserver(() => this.show()).observe(canvas);
    dark.addEventListener('change', () => this.show());
    canvas.addEventListener('pointerdown', (event) => this.#down(event));
    canvas.addEventListener('pointermove', (event) => this.#move(event));
    for (const type of /** @type {const} */ (['pointerup', 'pointercancel', 'lostpointercapture'])) {
      canvas.addEventListener(type, (event) => this.#up(event));
    }
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('focus', () => this.#showCursor());
    canvas.addEventListener('blur', () => {
      this.lift();
      this.#cursor.hidden = true;
    });
  }

  /** Shows what there is, with the next frame. */
  show() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  /** Ends the stroke that is under way. */
  lift() {
    if (!this.#drawing) return;
    this.#sharing.end(this.#drawing.stroke);
    this.#drawing = null;
    this.#cursor.classList.remove('down');
  }

  #paint() {
    const canvas = this.#canvas;
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(width * BOARD.height / BOARD.width);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = this.#context;
    const scale = width / BOARD.width;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, BOARD.width, BOARD.height);
    context.lineCap = context.lineJoin = 'round';
    for (const stroke of this.#sharing.drawing.strokes.values()) this.#stroke(stroke, 0);
    context.globalAlpha = FAINT;
    for (const { stroke, from } of this.#sharing.pending) this.#stroke(stroke, from);
    context.globalAlpha = 1;
  }

  /**
   * Draws a stroke from a point on: through the middles between its points, which makes it round.
   * @param {Stroke} stroke
   * @param {number} from
   */
  #stroke({ author, pen, points }, from) {
    const context = this.#context;
    const [x, y] = points.slice(Math.max(0, from - 1) * 2);
    context.strokeStyle = `oklch(${dark.matches ? '0.78 0.13' : '0.56 0.15'} ${hueOf(author)})`;
    context.lineWidth = PENS[pen];
    context.beginPath();
    context.moveTo(x, y);
    for (let i = Math.max(2, from * 2); i < points.length; i += 2) {
      const [x1, y1, x2 = x1, y2 = y1] = points.slice(i, i + 4);
      context.quadraticCurveTo(x1, y1, (x1 + x2) / 2, (y1 + y2) / 2);
    }
    if (points.length === 2) context.lineTo(x, y); // a dot
    context.stroke();
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.lift();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drawing = { stroke: this.#sharing.begin(this.pen, this.#place(event)), pointer: event.pointerId };
    this.#cursor.hidden = true;
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.#drawing?.pointer !== event.pointerId) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const one of all.length > 0 ? all : [event]) this.#to(this.#place(one));
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (this.#drawing?.pointer === event.pointerId) this.lift();
  }

  /** The line goes on to a place. @param {number[]} place */
  #to([x, y]) {
    const drawing = this.#drawing;
    if (!drawing) return;
    const { stroke, pointer } = drawing;
    const [lastX, lastY] = stroke.points.slice(-2);
    if (Math.hypot(x - lastX, y - lastY) < NEAR) return;
    if (this.#sharing.draw(stroke, [x, y])) return;
    // It is as long as one may be: another one goes on from here.
    this.#sharing.end(stroke);
    this.#drawing = { stroke: this.#sharing.begin(stroke.pen, [x, y]), pointer };
  }

  /** @param {PointerEvent} event */
  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return [within((clientX - left) / width * BOARD.width, BOARD.width), within((clientY - top) / height * BOARD.height, BOARD.height)];
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === ' ' || event.key === 'Enter') {
      if (!event.repeat) this.#press();
    } else if (dx !== 0 || dy !== 0) {
      const step = event.shiftKey ? LONG_STEP : STEP;
      const { x, y } = this.#at;
      this.#at = { x: within(x + dx * step, BOARD.width), y: within(y + dy * step, BOARD.height) };
      this.#to([this.#at.x, this.#at.y]);
    } else {
      return;
    }
    event.preventDefault();
    this.#showCursor();
  }

  /** The keys' pen goes down, or up. */
  #press() {
    const down = this.#drawing === null;
    this.lift();
    if (down) this.#drawing = { stroke: this.#sharing.begin(this.pen, [this.#at.x, this.#at.y]), pointer: -1 };
    this.#cursor.classList.toggle('down', down);
  }

  #showCursor() {
    const { style } = this.#cursor;
    this.#cursor.hidden = !this.#canvas.matches(':focus-visible');
    style.left = `${this.#at.x / BOARD.width * 100}%`;
    style.top = `${this.#at.y / BOARD.height * 100}%`;
  }
}

/**
 * @param {number} n
 * @param {number} most
 */
function within(n, most) {
  return Math.min(most, Math.max(0, Math.round(n)));
}
