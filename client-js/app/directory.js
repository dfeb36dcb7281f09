/** Who is who: users by their ids and names, each asked for once. */

/** @import {PullClient, PullUser} from '/pull.js' */

/** Users that are remembered. */
const LIMIT = 5_000;

export class Directory {
  /** @type {PullClient} */ #pull;
  /** @type {Map<number, Promise<PullUser>>} */ #byId = new Map();
  /** @type {Map<string, Promise<PullUser>>} */ #byName = new Map();
  /** What those that are known are called. @type {Map<number, string>} */ #names = new Map();

  /** @param {PullClient} pull */
  constructor(pull) {
    this.#pull = pull;
  }

  /** Takes in users that came otherwise. @param {readonly PullUser[]} users */
  learn(users) {
    if (this.#names.size > LIMIT) this.forget();
    for (const user of users) {
      const known = Promise.resolve(user);
      this.#byId.set(user.id, known);
      this.#byName.set(user.username, known);
      this.#names.set(user.id, user.username);
    }
  }

  /**
   * @param {string} username
   * @returns {Promise<PullUser>} rejected with a PullError.
   */
  byName(username) {
    return this.#once(this.#byName, username, () => this.#pull.userByName(username));
  }

  /**
   * Finds out what users are called.
   * @param {Iterable<number>} ids
   * @returns {Promise<void>} never rejected: those that are not found out are asked for again the next time.
   */
  async know(ids) {
    await Promise.allSettled(Array.from(ids, (id) => this.#once(this.#byId, id, () => this.#pull.user(id))));
  }

  /**
   * What a user is called, as far as that is known.
   * @param {number} id
   */
  nameOf(id) {
    return this.#names.get(id) ?? `User ${id}`;
  }

  forget() {
    for (const known of [this.#byId, this.#byName, this.#names]) known.clear();
  }

  /**
   * @template K
   * @param {Map<K, Promise<PullUser>>} known
   * @param {K} key
   * @param {() => Promise<PullUser>} ask
   */
  #once(known, key, ask) {
    const before = known.get(key);
    if (before) return before;
    const asked = ask();
    known.set(key, asked);
    asked.then((user) => this.learn([user]), () => known.delete(key));
    return asked;
  }
}
