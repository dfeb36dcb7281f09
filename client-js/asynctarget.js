/** Events whose listeners may take their time: whoever tells one can wait until all who heard it are done. */

/** @typedef {(event: any) => unknown} Listener */

/** An EventTarget that can tell what its listeners return. */
export class AsyncTarget extends EventTarget {
  /** What listens, by type and by what was handed in. @type {Map<string, WeakMap<object, Listener>>} */ #wrappers = new Map();
  /** What the listeners of the event that is being told have returned so far; null: nobody waits for them. @type {unknown[] | null} */
  #returned = null;

  /**
   * Tells an event, and waits for what its listeners do.
   * @param {Event} event
   * @returns {Promise<{heard: number, failed: unknown[]}>} how many have heard it, and why those have failed that did,
   *   once all are done; never rejected.
   */
  async tell(event) {
    const outer = this.#returned;
    /** @type {unknown[]} */
    const returned = this.#returned = [];
    this.dispatchEvent(event);
    this.#returned = outer;
    const done = await Promise.allSettled(returned);
    return { heard: done.length, failed: done.flatMap((one) => (one.status === 'rejected' ? [one.reason] : [])) };
  }

  /**
   * @override
   * @param {string} type
   * @param {any} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    if (!listener) return;
    const wrappers = this.#wrappers.get(type) ?? new WeakMap();
    this.#wrappers.set(type, wrappers);
    // One for one listener, so that the second time changes nothing, as with any other target.
    if (!wrappers.has(listener)) wrappers.set(listener, (/** @type {Event} */ event) => this.#call(listener, event));
    super.addEventListener(type, wrappers.get(listener) ?? null, options);
  }

  /**
   * @override
   * @param {string} type
   * @param {any} listener
   * @param {boolean | EventListenerOptions} [options]
   */
  removeEventListener(type, listener, options) {
    const wrapper = listener && this.#wrappers.get(type)?.get(listener);
    if (wrapper) super.removeEventListener(type, wrapper, options);
  }

  /**
   * @param {any} listener
   * @param {Event} event
   */
  #call(listener, event) {
    const returned = this.#returned;
    if (!returned) {
      void (typeof listener === 'function' ? listener(event) : listener.handleEvent(event));
      return;
    }
    try {
      returned.push(typeof listener === 'function' ? listener(event) : listener.handleEvent(event));
    } catch (error) {
      returned.push(Promise.reject(error));
    }
  }
}
