/**
 * What is on a board: strokes, in the order in which the host took them. Boards to
 * which the same changes were made in the same order show the same.
 */

/** The size of every board, in its own units; screens scale it. */
export const BOARD = Object.freeze({ width: 1600, height: 1200 });

/** The widths of a pen, in units of the board. */
export const PENS = Object.freeze([5, 12, 28]);

/** The most points of a board, after which the oldest strokes go, and of a stroke. */
export const MOST_POINTS = 20_000;
export const MOST_STROKE_POINTS = 1_000;

/** Whoever draws in a stroke that is longer than a piece sends more of them. */
const PIECE_POINTS = 400;

const LONGEST_ID = 40;

/**
 * A line that somebody has drawn in one go. Its points are x, y, x, y...
 * @typedef {{id: string, author: number, pen: number, points: number[]}} Stroke
 */

/**
 * Changes of a board: points of a stroke from the nth on, or the end of all that was
 * drawn in an age. What was meant for an age that has ended does nothing.
 * @typedef {Piece | {do: "clear", age: number}} Change
 */

/** @typedef {{do: "draw", age: number, id: string, author: number, pen: number, from: number, points: number[]}} Piece */

export class Drawing {
  /** How often the board was cleared. */
  age = 0;
  /** By id, the oldest first. @type {Map<string, Stroke>} */
  strokes = new Map();
  #points = 0;

  /**
   * Makes a change, as far as it has not been made: it may come twice, and overlap.
   * @param {Change} change
   * @returns {boolean} whether anything is different now.
   */
  make(change) {
    if (change.age !== this.age) return false;
    if (change.do === 'clear') {
      this.replace(this.age + 1, []);
      return true;
    }
    const { id, author, pen, from, points } = change;
    const stroke = this.strokes.get(id) ?? { id, author, pen, points: [] };
    const has = stroke.points.length / 2;
    const fresh = from > has ? [] : points.slice((has - from) * 2, (MOST_STROKE_POINTS - from) * 2);
    if (fresh.length === 0) return false;
    stroke.points.push(...fresh);
    this.strokes.set(id, stroke);
    this.#points += fresh.length / 2;
    this.#forget();
    return true;
  }

  /**
   * Becomes another one.
   * @param {number} age
   * @param {Stroke[]} strokes
   */
  replace(age, strokes) {
    this.age = age;
    this.strokes = new Map(strokes.map((stroke) => [stroke.id, stroke]));
    this.#points = strokes.reduce((sum, { points }) => sum + points.length / 2, 0);
    this.#forget();
  }

  /** How many points of a stroke there are. @param {string} id */
  has(id) {
    return (this.strokes.get(id)?.points.length ?? 0) / 2;
  }

  #forget() {
    for (const [id, { points }] of this.strokes) {
      if (this.#points <= MOST_POINTS) break;
      this.strokes.delete(id);
      this.#points -= points.length / 2;
    }
  }
}

/**
 * Whether something that came is a change. Whoever is in the room can send anything.
 * @param {any} value
 * @returns {value is Change}
 */
export function isChange(value) {
  if (!isCount(value?.age)) return false;
  return value.do === 'clear'
    || value.do === 'draw' && isCount(value.from) && isStroke(value) && value.points.length <= PIECE_POINTS * 2;
}

/**
 * @param {any} value
 * @returns {value is Stroke}
 */
export function isStroke(value) {
  return typeof value?.id === 'string' && value.id.length <= LONGEST_ID && isCount(value.author) && isCount(value.pen) && value.pen < PENS.length
    && Array.isArray(value.points) && value.points.length % 2 === 0 && value.points.length <= MOST_STROKE_POINTS * 2
    && value.points.every((/** @type {any} */ n, /** @type {number} */ i) => isCount(n) && n <= (i % 2 ? BOARD.height : BOARD.width));
}

/**
 * @param {unknown} value
 * @returns {value is number}
 */
export function isCount(value) {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

/**
 * What is to be sent of a stroke from a point on.
 * @param {Stroke} stroke
 * @param {number} age
 * @param {number} from
 * @returns {Piece}
 */
export function pieceOf({ id, author, pen, points }, age, from) {
  return { do: 'draw', age, id, author, pen, from, points: points.slice(from * 2, (from + PIECE_POINTS) * 2) };
}
