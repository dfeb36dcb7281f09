/**
 * What was said in one conversation, put together from its pages. Pages count back from
 * the newest message, so they shift under whoever reads them: what is known is recognised
 * by its ids, and has no hole.
 */

/** @import {PullMessage, PullPage} from '/pull.js' */

/** Messages a page. */
export const PAGE = 20;

/** How many pages are fetched to get to what is known; then it begins anew. */
const REACH = 10;

/** Messages that are kept besides those that were paged back to. */
const LIMIT = 1_000;

/** Pages that are looked through for those before the oldest that is known. */
const LONG_WAY = 100;

export class Thread {
  // Fixed after construction.
  /** @type {(index: number) => Promise<PullPage>} */ #fetch;

  /** As the pages have them, oldest first, without a hole. @type {PullMessage[]} */ #settled = [];
  #ids = new Set();
  /** Known otherwise, in the order in which they came: where they belong the next refresh tells. @type {PullMessage[]} */ #loose = [];
  #paged = 0;
  #hasOlder = true;
  /** One request at a time: what they find depends on what is known. @type {Promise<unknown>} */ #before = Promise.resolve();
  /** A refresh that has not begun yet. @type {Promise<void> | null} */ #soon = null;

  /** @param {(index: number) => Promise<PullPage>} fetch */
  constructor(fetch) {
    this.#fetch = fetch;
  }

  /** Oldest first. @returns {PullMessage[]} */
  get messages() {
    return [...this.#settled, ...this.#loose];
  }

  /** Whether there may be older ones. */
  get hasOlder() {
    return this.#hasOlder;
  }

  /**
   * Takes messages that were got otherwise than by pages: sent, or pulled.
   * @param {PullMessage[]} messages  Oldest first.
   */
  add(messages) {
    for (const message of messages) {
      if (this.#ids.has(message.id) || this.#loose.some(({ id }) => id === message.id)) continue;
      this.#loose.push(message);
    }
  }

  /**
   * Fetches what is newer than what is known. Those who ask while it has not begun share one.
   * @returns {Promise<void>} rejected when a page could not be fetched; nothing has changed then.
   */
  refresh() {
    this.#soon ??= this.#queue(() => {
      this.#soon = null;
      return this.#refresh();
    });
    return this.#soon;
  }

  /**
   * Fetches a page of older messages.
   * @returns {Promise<void>} rejected when it could not be fetched.
   */
  older() {
    return this.#queue(() => (this.#settled.length === 0 ? this.#refresh() : this.#older()));
  }

  /**
   * @param {() => Promise<void>} run
   * @returns {Promise<void>}
   */
  #queue(run) {
    const turn = this.#before.then(run);
    this.#before = turn.catch(() => {});
    return turn;
  }

  async #refresh() {
    /** Newest first. @type {Map<string, PullMessage>} */
    const fresh = new Map();
    const first = this.#settled.length === 0;
    let met = false;
    let hasMore = true;
    for (let index = 0; !met && hasMore && index < (first ? 1 : REACH); index++) {
      const page = await this.#fetch(index);
      for (const message of page.messages) {
        met = this.#ids.has(message.id);
        if (met) break;
        fresh.set(message.id, message);
      }
      hasMore = page.hasMore;
    }
    if (!met) {
      this.#settled = [];
      this.#ids.clear();
      this.#paged = 0;
      this.#hasOlder = hasMore;
    }
    this.#settled.push(...[...fresh.values()].reverse());
    for (const id of fresh.keys()) this.#ids.add(id);
    this.#loose = this.#loose.filter(({ id }) => !this.#ids.has(id));
    const surplus = this.#settled.length - LIMIT - this.#paged;
    if (surplus <= 0) return;
    for (const { id } of this.#settled.splice(0, surplus)) this.#ids.delete(id);
    this.#hasOlder = true;
  }

  async #older() {
    const [{ id: oldest }] = this.#settled;
    /** Newest first. @type {Map<string, PullMessage>} */
    const older = new Map();
    let met = false;
    let hasMore = true;
    // From the page on that has the oldest one, if nothing has come meanwhile; it is further back if something has.
    const from = Math.floor((this.#settled.length - 1) / PAGE);
    for (let index = from; older.size === 0 && hasMore && index < from + LONG_WAY; index++) {
      const page = await this.#fetch(index);
      for (const message of page.messages) {
        if (met && !this.#ids.has(message.id)) older.set(message.id, message);
        met ||= message.id === oldest;
      }
      hasMore = page.hasMore;
    }
    if (!met && hasMore) throw new Error('more has come meanwhile than can be passed over');
    this.#settled.unshift(...[...older.values()].reverse());
    for (const id of older.keys()) this.#ids.add(id);
    this.#paged += older.size;
    this.#hasOlder = hasMore;
  }
}
