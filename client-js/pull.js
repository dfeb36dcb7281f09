/**
 * Pull client of a Parley relay: users, friends, groups and their messages by plain
 * requests, and one long poll that tells when there is something to fetch. It works where
 * sockets cannot stay open, and needs nothing but what a browser has.
 *
 * What it guarantees:
 * - A notification comes at least once, in order, as long as the relay keeps it: the
 *   client's place moves, and the relay is told so, only after all listeners are done
 *   with it. Of this client's own place none comes twice.
 * - Where notifications may be missing, `gap` comes in their place: look at everything anew.
 * - One poll at a time. One that fails is followed by the next after a wait that obeys
 *   the relay's Retry-After and full jitter, on whichever node that lands.
 * - Nothing is sent twice: a call that fails is not repeated by itself.
 */

import { AsyncTarget } from './asynctarget.js';
import { systemClock } from './connection.js';
import { ParleyError } from './link.js';
import { PullApi } from './pullapi.js';
import { PullError } from './pullerror.js';
import { checkedPlace, notificationOf } from './pullnews.js';
import { compareIds } from './room.js';

export { ParleyError, PullApi, PullError, compareIds };

/**
 * @import {PageLike} from './comeback.js'
 * @import {Clock} from './connection.js'
 * @import {PullApiOptions} from './pullapi.js'
 * @import {Notification} from './pullnews.js'
 */

/**
 * What of other modules the caller of this one may want to name.
 * @typedef {import('./pullapi.js').PullUser} PullUser
 * @typedef {import('./pullapi.js').PullMe} PullMe
 * @typedef {import('./pullapi.js').PullMessage} PullMessage
 * @typedef {import('./pullapi.js').PullPage} PullPage
 * @typedef {import('./pullapi.js').PullSent} PullSent
 * @typedef {import('./pullapi.js').PullGroup} PullGroup
 * @typedef {import('./pullapi.js').PullFound} PullFound
 */

/**
 * - `connecting`: asking whether there is something, and whether there is a session.
 * - `open`: a poll is held, or what came is being handed on.
 * - `waiting`: a poll has failed, and the next one is not due yet.
 * - `closed`: not started, stopped, or without a session.
 * @typedef {"connecting" | "open" | "waiting" | "closed"} PullState
 */

/** Why the last poll failed, and when the next one is tried. @typedef {{code: string, reason: string, status: number, attempt: number, delay: number}} PullWait */

/**
 * The events of a client, with what their `detail` holds. A listener may return a promise:
 * the next notification waits for it, and so does the next poll. `time` is in ms since
 * the epoch, by the relay's clock.
 *
 * - `private`: somebody has written to this user.
 * - `group`: somebody has written to a group that this user is in.
 * - `groupcreated`: this user is in a group that is new, or new to them; or a group has
 *   a new member.
 * - `gap`: notifications may be missing here. `id` is null when it is this client that
 *   does not know.
 * - `place`: everything up to there is done with: to be kept, and handed in as `place`.
 * - `error`: a listener has failed (HANDLER, with the `cause`); what it was told of counts
 *   as done with.
 * - `reconnecting`: the next poll is tried in `delay` ms; `attempt` counts those that
 *   failed in a row, `code`, `status` and `reason` say how the last one did. It comes
 *   again when the wait is cut short.
 * - `close`: the client has stopped. `signedOut`: there is no session, or it has ended.
 * - `state`: the state has changed.
 * @typedef {object} PullEvents
 * @property {CustomEvent<{from: string, id: string, time: number}>} private
 * @property {CustomEvent<{group: string, id: string, time: number}>} group
 * @property {CustomEvent<{group: string, id: string, time: number}>} groupcreated
 * @property {CustomEvent<{id: string | null, time: number}>} gap
 * @property {CustomEvent<{place: string}>} place
 * @property {CustomEvent<{code: string, message: string, cause: unknown}>} error
 * @property {CustomEvent<PullWait>} reconnecting
 * @property {CustomEvent<{signedOut: boolean}>} close
 * @property {CustomEvent<{state: PullState}>} state
 */

/**
 * @typedef {object} PullSettings
 * @property {string | null} [place]  Where to go on from, as `place` told it; without one, from what the relay keeps for this session.
 * @property {number} [pollTimeout]  How long the relay may hold a poll, in s, 1 to 120. Default 55: less than what proxies commonly allow.
 * @property {number} [backoffBase]  Longest wait before the first new attempt, in ms; it doubles with each that fails. Default 1000.
 * @property {number} [backoffCap]  Bound of that doubling, in ms. Default 30000.
 * @property {() => number} [random]  From 0 up to 1, for the jitter. Default Math.random.
 * @property {PageLike | null} [page]  Default the global object; null: no page.
 */

/** @typedef {PullApiOptions & PullSettings} PullOptions */

/** Notifications that one answer may have: the most that a relay gives. */
const MAX = 100;

/** Bound of an obeyed Retry-After: timers overflow at 24 days. */
const LONGEST_WAIT = 24 * 3_600_000;

/** A poll that is older than this, in ms, may have died unseen when somebody looks at the page again. */
const STALE = 10_000;

/**
 * A page that nobody has looked at for so long, in ms, holds no poll any more, but asks
 * each so often: a browser opens six connections to a host and no more, and a poll that is
 * held takes one of them, for all tabs together.
 */
const HIDDEN_FOR = 5 * 60_000;
const HIDDEN_EACH = 60_000;

/** One time from `start` to `stop`. */
class Run {
  /** Polls that failed in a row. */
  attempt = 0;
  /** Whether the last poll was answered, so that the next one may be held. */
  sound = false;
  /** Set while a poll is under way: ends it. @type {AbortController | null} */
  poll = null;
  /** When the poll under way began. */
  since = 0;
  /** Whether the poll that is under way was ended by this side. */
  cut = false;
  /** Set while waiting. @type {{from: number, floor: number, due: number, timer: any, go: () => void, cause: Omit<PullWait, "delay"> | null} | null} */
  wait = null;
}

/** One user's view of a relay, and what comes for them. Its events: {@link PullEvents}. */
export class PullClient extends PullApi {
  // Fixed after construction.
  /** @type {Clock} */ #clock;
  /** @type {() => number} */ #random;
  /** @type {PageLike | null} */ #page;
  /** @type {number} */ #pollTimeout;
  /** @type {number} */ #backoffBase;
  /** @type {number} */ #backoffCap;
  #target = new AsyncTarget();

  /** @type {PullState} */ #state = 'closed';
  /** Null while stopped. @type {Run | null} */ #run = null;
  /** The end of the run before, whose listeners may be at work still. @type {Promise<void>} */ #before = Promise.resolve();
  /** @type {string | null} */ #place;
  /** Where the last notification was a gap: a relay that tells the same one again and again is asked less often. @type {string | null} */ #gapAt = null;
  /** Whether an answer may have been lost that the relay counts as taken: without a place it cannot know better. */
  #unsure = false;
  /** Whose place it is, as far as that is known. @type {number | null} */ #userId = null;
  /** How often the place was forgotten: what was under way then has no say in it any more. */ #forgotten = 0;
  /** Since when nobody has looked at the page; null: somebody does. @type {number | null} */ #hiddenSince = null;

  /**
   * Asks nothing yet.
   * @param {PullOptions} [options]
   * @throws {TypeError} when the URL or the place is none, or when there is no page to take the URL from.
   */
  constructor(options = {}) {
    super(options);
    this.#clock = options.clock ?? systemClock;
    this.#random = options.random ?? Math.random;
    this.#page = options.page === undefined ? /** @type {PageLike} */ (globalThis) : options.page;
    this.#pollTimeout = Math.min(120, Math.max(1, options.pollTimeout ?? 55));
    this.#backoffBase = options.backoffBase ?? 1_000;
    this.#backoffCap = options.backoffCap ?? 30_000;
    this.#place = checkedPlace(options.place ?? null);
  }

  /** @returns {PullState} */
  get state() {
    return this.#state;
  }

  /** The last notification that is done with; null: none yet. */
  get place() {
    return this.#place;
  }

  /**
   * @template {keyof PullEvents} K
   * @param {K} type
   * @param {(event: PullEvents[K]) => unknown} listener  What it returns is waited for.
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    this.#target.addEventListener(type, listener, options);
  }

  /**
   * @template {keyof PullEvents} K
   * @param {K} type
   * @param {(event: PullEvents[K]) => unknown} listener
   * @param {boolean | EventListenerOptions} [options]
   */
  removeEventListener(type, listener, options) {
    this.#target.removeEventListener(type, listener, options);
  }

  /**
   * Starts polling, until `stop()` or the end of the session. While waiting it cuts the
   * wait short, though never below what the relay asked for. Polling already, it does
   * nothing.
   * @param {{place?: string | null}} [options]  `place`: where to go on from, as the option of the client; without it, from where it is.
   * @throws {TypeError} when the place is none.
   */
  start({ place = null } = {}) {
    if (this.#run) {
      this.#hasten(this.#run);
      return;
    }
    if (place !== null) this.#place = checkedPlace(place);
    const run = this.#run = new Run();
    this.#page?.addEventListener?.('online', this.#online);
    this.#page?.document?.addEventListener('visibilitychange', this.#looked);
    this.#hiddenSince = this.#hidden ? this.#clock.now() : null;
    const before = this.#before;
    this.#enter('connecting');
    this.#before = before.then(() => this.#loop(run));
  }

  /**
   * Stops polling; `start()` goes on from here. What came and was not handed on comes
   * again then; a listener that is at work is not stopped.
   */
  stop() {
    this.#end(false);
  }

  /**
   * Signs in, and stops: `start()` comes next. The place is forgotten if it was another user's.
   * @override
   * @param {{email: string, password: string}} credentials
   */
  async signIn(credentials) {
    const answer = await super.signIn(credentials);
    this.stop();
    this.#is(answer.user.id);
    return answer;
  }

  /** @override */
  async me() {
    const me = await super.me();
    this.#is(me.id);
    return me;
  }

  /**
   * Stops, and forgets who is signed in, their place, and what was read.
   * @override
   */
  forget() {
    this.stop();
    super.forget();
    this.#forgetPlace();
    this.#userId = null;
  }

  /** @param {number} userId  Who is signed in. */
  #is(userId) {
    if (this.#userId !== null && this.#userId !== userId) this.#forgetPlace();
    this.#userId = userId;
  }

  #forgetPlace() {
    this.#forgotten++;
    this.#place = null;
    this.#gapAt = null;
    this.#unsure = false;
  }

  // The loop.

  /** @param {Run} run */
  async #loop(run) {
    while (this.#run === run) {
      const resting = this.#resting;
      // Held only once the relay has answered: so that one knows at once whether there is a session.
      const held = run.sound && !resting;
      /** @type {Notification[]} */
      let came;
      run.since = this.#clock.now();
      try {
        came = await this.#ask(run, held ? this.#pollTimeout : 0);
      } catch (error) {
        await this.#failed(run, /** @type {PullError} */ (error));
        continue;
      }
      const answered = this.#clock.now();
      run.attempt = 0;
      run.sound = true;
      if (this.#run === run) this.#enter('open');
      if (this.#unsure && this.#run === run) {
        this.#unsure = false;
        await this.#tell('gap', { id: null, time: answered });
      }
      const news = await this.#handOn(run, came);
      if (this.#run !== run) return;
      if (resting) {
        await this.#sleep(run, 0, HIDDEN_EACH / 2 + this.#random() * HIDDEN_EACH, null);
      } else if (!news && (held || came.length > 0) && answered - run.since < this.#pollTimeout * 500) {
        // A node that is about to stop answers at once, and would do so again.
        await this.#sleep(run, 0, this.#random() * this.#backoffBase, null);
      }
    }
  }

  /**
   * @param {Run} run
   * @param {number} timeout
   * @returns {Promise<Notification[]>}
   */
  async #ask(run, timeout) {
    const poll = run.poll = new AbortController();
    run.cut = false;
    const [place, forgotten] = [this.#place, this.#forgotten];
    try {
      return (await this.collect({ timeout, max: MAX, after: place }, poll.signal)).map(notificationOf);
    } catch (error) {
      // An answer may have been on its way, of which a relay that was told no place takes the sending for the taking.
      if (place === null && /** @type {PullError} */ (error).status === 0 && this.#forgotten === forgotten) this.#unsure = true;
      throw error;
    } finally {
      run.poll = null;
    }
  }

  /**
   * @param {Run} run
   * @param {PullError} error
   */
  async #failed(run, error) {
    if (this.#run !== run) return;
    if (error.status === 401) {
      this.#end(true);
      return;
    }
    run.sound = false;
    if (run.cut) return;
    const attempt = ++run.attempt;
    const floor = Math.min(error.retryAfter ?? 0, LONGEST_WAIT);
    const spread = Math.min(this.#backoffCap, this.#backoffBase * 2 ** (attempt - 1));
    this.#enter('waiting');
    if (this.#run === run) await this.#sleep(run, floor, Math.round(this.#random() * spread), { code: error.code, reason: error.message, status: error.status, attempt });
    if (this.#run === run) this.#enter('connecting');
  }

  /**
   * Hands on what this client has not had, one after another.
   * @param {Run} run
   * @param {Notification[]} came
   * @returns {Promise<boolean>} whether there was anything.
   */
  async #handOn(run, came) {
    let news = false;
    const forgotten = this.#forgotten;
    for (const { type, detail } of came) {
      if (this.#forgotten !== forgotten) break;
      if (this.#run !== run) {
        // Not handed on, and the relay was told no place: it takes it for taken.
        this.#unsure ||= this.#place === null;
        break;
      }
      const { id } = detail;
      // A gap is told at the place that it follows, which may be this one, or lie before it when the relay's data was lost.
      if (type !== 'gap' && this.#place !== null && compareIds(id, this.#place) <= 0) continue;
      news ||= type !== 'gap' || id !== this.#gapAt;
      if (type !== 'other') await this.#tell(type, detail);
      if (this.#forgotten !== forgotten) break;
      this.#place = id;
      this.#gapAt = type === 'gap' ? id : null;
      await this.#tell('place', { place: id });
    }
    return news;
  }

  /**
   * @template {keyof PullEvents} K
   * @param {K} type
   * @param {PullEvents[K]["detail"]} detail
   */
  async #tell(type, detail) {
    const { failed } = await this.#target.tell(new CustomEvent(type, { detail }));
    for (const cause of failed) {
      const { heard } = await this.#target.tell(new CustomEvent('error', { detail: { code: 'HANDLER', message: `a listener of ${type} has failed`, cause } }));
      // What nobody hears is shown where programs show what they did not expect.
      if (heard === 0) queueMicrotask(() => { throw cause; });
    }
  }

  /**
   * Waits, at most until `stop`. What is above the floor may be cut short.
   * @param {Run} run
   * @param {number} floor
   * @param {number} spread
   * @param {Omit<PullWait, "delay"> | null} cause  Null: of no interest.
   * @returns {Promise<void>}
   */
  #sleep(run, floor, spread, cause) {
    return new Promise((go) => {
      const from = this.#clock.now();
      run.wait = { from, floor, due: from + floor + spread, timer: null, go, cause };
      this.#schedule(run);
    });
  }

  /** @param {Run} run */
  #schedule(run) {
    const { wait } = run;
    if (!wait) return;
    const delay = Math.max(0, wait.due - this.#clock.now());
    this.#clock.clearTimeout(wait.timer);
    wait.timer = this.#clock.setTimeout(() => {
      run.wait = null;
      wait.go();
    }, delay);
    if (wait.cause) this.#emit('reconnecting', { ...wait.cause, delay });
  }

  /** @param {Run} run */
  #hasten(run) {
    const { wait } = run;
    if (!wait || wait.from + wait.floor >= wait.due) return;
    wait.due = wait.from + wait.floor;
    this.#schedule(run);
  }

  /** @param {boolean} signedOut */
  #end(signedOut) {
    const run = this.#run;
    if (!run) return;
    this.#run = null;
    this.#page?.removeEventListener?.('online', this.#online);
    this.#page?.document?.removeEventListener('visibilitychange', this.#looked);
    run.poll?.abort();
    this.#clock.clearTimeout(run.wait?.timer);
    run.wait?.go();
    run.wait = null;
    this.#enter('closed');
    this.#emit('close', { signedOut });
  }

  // The page.

  get #hidden() {
    return this.#page?.document?.visibilityState === 'hidden';
  }

  /** Whether nobody has looked at the page for long. */
  get #resting() {
    return this.#hiddenSince !== null && this.#clock.now() - this.#hiddenSince >= HIDDEN_FOR;
  }

  /** The network is back, perhaps another one: a poll that is held may have died unseen. */
  #online = () => {
    if (this.#run) this.#renew(this.#run);
  };

  #looked = () => {
    const run = this.#run;
    if (!run) return;
    if (this.#hidden) {
      this.#hiddenSince ??= this.#clock.now();
    } else {
      this.#hiddenSince = null;
      if (!run.poll || this.#clock.now() - run.since > STALE) this.#renew(run);
    }
  };

  /**
   * Asks anew, now: instead of the poll under way, or of the rest of the wait.
   * @param {Run} run
   */
  #renew(run) {
    if (run.poll) {
      run.cut = true;
      run.poll.abort();
    }
    this.#hasten(run);
  }

  /** @param {PullState} state */
  #enter(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.#emit('state', { state });
  }

  /**
   * @template {keyof PullEvents} K
   * @param {K} type
   * @param {PullEvents[K]["detail"]} detail
   */
  #emit(type, detail) {
    this.#target.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
