/**
 * What outlives a connection: the session that the next one resumes, and the
 * messages that need not be handed on again.
 */

/**
 * What a `connection` message says about the session.
 * @typedef {object} SessionNews
 * @property {string} token  Resumes the session from here on; empty where the relay resumes none.
 * @property {boolean | undefined} recovered  Only of a session that was resumed: whether nothing is missing.
 */

/**
 * Why messages may be missing:
 * - `expired`: the session could not be resumed. The address is a new one, and
 *   what is sent to the old one is lost.
 * - `away`: the session was resumed, and some of what came while the connection
 *   was away may be missing.
 * - `relay`: the connection stayed, and the relay itself may have lost messages.
 * @typedef {"expired" | "away" | "relay"} GapReason
 */

/** How often an open connection asks for a fresh token, in ms: the older it is, the less the relay can recover. */
export const TOKEN_REFRESH = 10 * 60_000;

/** Messages that are recognised when they come again; of more, the oldest are forgotten. */
export const SEEN_LIMIT = 1_000;

/** Words for each kind of gap, safe to show. @type {Readonly<Record<GapReason, string>>} */
export const GapDescription = Object.freeze({
  expired: 'the session could not be resumed: the address is a new one, and messages to the old one are lost',
  away: 'messages that came while the connection was away may be missing',
  relay: 'the relay may have lost messages',
});

/** The session of one client, over all its connections. */
export class Session {
  /** Resumes the session; null: there is none to resume. @type {string | null} */
  token;
  /** The id of the last message that was handled since the token came; null: none. @type {string | null} */
  last;
  /** Whether sessions are resumed at all. */
  #enabled;
  /** Whether there was a session already, which a fresh one would replace. */
  #begun;
  /** Ids of messages that were handled, oldest first. @type {Set<string>} */
  #seen = new Set();

  /**
   * @param {boolean} enabled
   * @param {string | null} token  Of a session that began elsewhere.
   * @param {string | null} last  The id of the last message that was handled there.
   */
  constructor(enabled, token, last) {
    this.#enabled = enabled;
    this.token = enabled ? token : null;
    this.last = this.token === null ? null : last;
    this.#begun = this.token !== null;
    if (this.last !== null) this.#seen.add(this.last);
  }

  /**
   * Where to connect to, so that the session goes on. Holds the token: it is
   * for the handshake alone, never for a log.
   * @param {URL} url
   */
  address(url) {
    if (this.token === null) return url.href;
    const resuming = new URL(url);
    // Not by searchParams, which would write the other parameters anew.
    resuming.search += `${url.search ? '&' : '?'}resume=${encodeURIComponent(this.token)}`;
    if (this.last !== null) resuming.search += `&last=${encodeURIComponent(this.last)}`;
    return resuming.href;
  }

  /** The relay does not take the token: the session is lost. */
  refused() {
    this.token = null;
    this.last = null;
  }

  /**
   * Takes the greeting of a new connection.
   * @param {SessionNews} news
   * @returns {{resumed: boolean, recovered: boolean, gap: GapReason | null}}
   */
  greeted(news) {
    const resumed = this.token !== null && news.recovered !== undefined;
    const recovered = resumed && news.recovered === true;
    if (!resumed) this.refused();
    const missing = this.#enabled && this.#begun && !recovered;
    this.#begun = true;
    this.renew(news.token);
    return { resumed, recovered, gap: missing ? (resumed ? 'away' : 'expired') : null };
  }

  /**
   * Takes a newer token. It tells the place among the messages where it came,
   * more exactly than the ones before it would.
   * @param {string} token  Empty: there is none.
   */
  renew(token) {
    if (!this.#enabled || token === '') return;
    this.token = token;
    this.last = null;
  }

  /**
   * Whether a message has not been handled yet.
   * @param {string} id
   */
  isNew(id) {
    return !this.#seen.has(id);
  }

  /**
   * A message has been handled.
   * @param {string} id
   */
  handled(id) {
    if (this.token !== null) this.last = id;
    this.#seen.add(id);
    if (this.#seen.size > SEEN_LIMIT) this.#seen.delete(/** @type {string} */ (this.#seen.values().next().value));
  }
}
