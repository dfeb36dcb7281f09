/** Answers that a relay need not send again: kept by address, with their ETags, within bounds. */

/** How many answers are kept, and how many characters all of them may have. */
const ANSWERS = 100;
const CHARACTERS = 1_000_000;

/** What is kept of an answer. @typedef {{tag: string, text: string}} Kept */

/** The answers that were given last. */
export class Etags {
  /** By address; the one that was used last is last. @type {Map<string, Kept>} */ #kept = new Map();
  #characters = 0;

  /** How many answers are kept. */
  get size() {
    return this.#kept.size;
  }

  /**
   * The answer that is kept of an address.
   * @param {string} url
   * @returns {Kept | null}
   */
  of(url) {
    const kept = this.#kept.get(url);
    if (!kept) return null;
    this.#kept.delete(url);
    this.#kept.set(url, kept);
    return kept;
  }

  /**
   * Keeps an answer, instead of the one before.
   * @param {string} url
   * @param {string | null} tag  Null: there is nothing to recognise it by, so it is not kept.
   * @param {string} text
   */
  keep(url, tag, text) {
    this.#drop(url);
    if (!tag || text.length > CHARACTERS) return;
    this.#kept.set(url, { tag, text });
    this.#characters += text.length;
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= ANSWERS && this.#characters <= CHARACTERS) break;
      this.#drop(oldest);
    }
  }

  /** Forgets all: they were somebody else's. */
  forget() {
    this.#kept.clear();
    this.#characters = 0;
  }

  /** @param {string} url */
  #drop(url) {
    this.#characters -= this.#kept.get(url)?.text.length ?? 0;
    this.#kept.delete(url);
  }
}
