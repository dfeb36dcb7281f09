/**
 * One room's messages as far as a client has them: in order, each once, and
 * without a hole but where `gaps` says so.
 */

/** @typedef {{id: number, username: string}} ChatUser */

/**
 * A message; `timestamp` in ms since the epoch.
 * @typedef {{id: string, content: string, user: ChatUser, timestamp: number}} ChatMessage
 */

/**
 * A part of a room's history, newest first; whether older ones exist; and, after an
 * absence, whether these are all that was missed, if the relay says so.
 * @typedef {{messages: ChatMessage[], hasMoreMessages: boolean, complete?: boolean}} Page
 */

/**
 * A room as the caller sees it. It changes as messages come.
 * @typedef {object} ChatRoom
 * @property {string} id
 * @property {string} name
 * @property {readonly ChatMessage[]} messages  Oldest first; without a hole from the first to the last, but for `gaps`.
 * @property {boolean} hasMoreMessages  Whether there are older ones, for `loadOlder`.
 * @property {ReadonlySet<string>} gaps  Ids of messages after which some may be missing that nobody has any more; '' stands for the place before the first one.
 * @property {readonly ChatUser[]} online  Who is here.
 */

/** What lies beyond a hole. @typedef {{messages: ChatMessage[], gaps: Set<string>, recovered: boolean | undefined}} Ahead */

/** What a room had to append, and where something may be missing. @typedef {{message: ChatMessage, gap?: undefined} | {gap: string, message?: undefined}} News */

/** How many messages a page has, if there are so many: as the protocol says. */
export const PAGE_SIZE = 100;

/**
 * Compares two message ids, `ms-seq`, as numbers however long.
 * @param {string} a
 * @param {string} b
 * @returns {number} negative, 0 or positive as a stands before, at or after b.
 */
export function compareIds(a, b) {
  const [one, two] = [a.split('-'), b.split('-')];
  return compareDigits(one[0], two[0]) || compareDigits(one[1] ?? '', two[1] ?? '');
}

/**
 * @param {string} a
 * @param {string} b
 */
function compareDigits(a, b) {
  return a.length - b.length || (a < b ? -1 : Number(a > b));
}

/** The room that a ChatClient keeps. */
export class Room {
  // As in ChatRoom.
  id;
  name;
  /** @type {ChatMessage[]} */ messages = [];
  hasMoreMessages = false;
  /** @type {Set<string>} */ gaps = new Set();

  /** By id. @type {Map<number, ChatUser>} */ #online = new Map();
  /** Of `messages`. @type {Set<string>} */ #ids = new Set();
  /** How many messages are kept besides those that were paged back to. */ #limit;
  /** How many were paged back to. */ #paged = 0;
  /**
   * Set while there is a hole between `messages` and what is newer: that, oldest
   * first, and after which of its messages some may be missing.
   * @type {Ahead | null}
   */
  #ahead = null;

  /**
   * A room begins with its newest page.
   * @param {string} id
   * @param {Page & {name: string}} page
   * @param {number} limit  How many messages are kept; older ones are let go of as new ones come.
   */
  constructor(id, page, limit) {
    this.id = id;
    this.name = page.name;
    this.#limit = limit;
    this.#begin([...page.messages].reverse(), page.hasMoreMessages);
  }

  get online() {
    return [...this.#online.values()];
  }

  /** The place up to which nothing is missing that there is; null: there was no message yet. */
  get last() {
    return this.messages.at(-1)?.id ?? null;
  }

  /** What a page is asked for with that closes the hole; null: there is no hole. */
  get holeBefore() {
    return this.#ahead?.messages[0].id ?? null;
  }

  /** @param {ChatUser[]} users */
  here(users) {
    this.#online = new Map(users.map((user) => [user.id, user]));
  }

  /**
   * @param {ChatUser} user
   * @param {boolean} online
   */
  presence(user, online) {
    if (online) this.#online.set(user.id, user);
    else this.#online.delete(user.id);
  }

  /**
   * Takes the newest page after an absence: what came after `last`, or a whole page.
   * @param {Page} page
   * @param {boolean | undefined} recovered  Whether what came after `last` still exists, all of it; undefined: the relay does not say.
   * @returns {News[]} what can be appended; not all while there is a hole.
   */
  resume(page, recovered) {
    const newer = this.#newer(page, recovered === false);
    // A hole that was open is covered by this page and those before it.
    this.#ahead = newer.length > 0 ? { messages: newer, gaps: new Set(), recovered } : null;
    // The relay says whether this is all that was missed; else less than a page is, though
    // what is known is older and exists.
    const all = recovered === true && (page.complete ?? page.messages.length < PAGE_SIZE);
    if (newer.length > 0) return this.#close(all ? { messages: page.messages, hasMoreMessages: false } : page);
    // Nothing is newer. What was known and is not there any more says that something was lost.
    const lost = recovered === undefined ? page.messages.length === 0 && this.last !== null : !recovered;
    return lost ? [this.#gapAfter(this.last ?? '')] : [];
  }

  /**
   * Takes messages that come as they are written.
   * @param {ChatMessage[]} messages  Oldest first.
   * @returns {News[]}
   */
  live(messages) {
    if (this.#ahead) {
      for (const message of messages) insert(this.#ahead.messages, message);
      return [];
    }
    return this.#append(messages);
  }

  /**
   * Messages may be missing at this place, which nobody has any more.
   * @returns {News[]}
   */
  gap() {
    if (!this.#ahead) return [this.#gapAfter(this.last ?? '')];
    this.#ahead.gaps.add(/** @type {ChatMessage} */ (this.#ahead.messages.at(-1)).id);
    return [];
  }

  /**
   * Takes a page of what is older than `before`: it closes a hole, or goes in
   * front. One that fits in neither place any more changes nothing.
   * @param {string} before
   * @param {Page} page
   * @returns {{older: ChatMessage[], news: News[]}}
   */
  history(before, page) {
    if (before === this.holeBefore) {
      const { messages } = /** @type {Ahead} */ (this.#ahead);
      messages.unshift(...this.#newer(page, false));
      return { older: [], news: this.#close(page) };
    }
    if (before !== this.messages[0]?.id) return { older: [], news: [] };
    const older = page.messages.filter(({ id }) => compareIds(id, before) < 0).reverse();
    this.messages.unshift(...older);
    for (const { id } of older) this.#ids.add(id);
    this.#paged += older.length;
    this.hasMoreMessages = page.hasMoreMessages && older.length > 0;
    return { older, news: [] };
  }

  /**
   * Gives up a hole: the room begins anew with what is newer, and all before
   * that is there to be paged back to.
   * @returns {ChatMessage[]} the messages that were new.
   */
  skip() {
    if (!this.#ahead) return [];
    const { messages, gaps } = this.#ahead;
    this.#ahead = null;
    this.#begin(messages, true);
    this.gaps = gaps;
    return messages;
  }

  /**
   * @param {ChatMessage[]} messages  Oldest first.
   * @param {boolean} more
   */
  #begin(messages, more) {
    this.messages = messages;
    this.#ids = new Set(messages.map(({ id }) => id));
    this.gaps = new Set();
    this.#paged = 0;
    this.hasMoreMessages = more && messages.length > 0;
  }

  /**
   * What of a page is new, oldest first.
   * @param {Page} page
   * @param {boolean} lost  Whether what is known may have been lost, and its place taken by others.
   */
  #newer(page, lost) {
    const { last } = this;
    const least = lost ? this.messages[0]?.id : last;
    return page.messages.filter(({ id }) => !least || (compareIds(id, least) > 0 && !this.#ids.has(id))).reverse();
  }

  /**
   * Appends what is ahead if this page, the oldest of it, has closed the hole.
   * @param {Page} page
   */
  #close(page) {
    const ahead = /** @type {Ahead} */ (this.#ahead);
    const { last } = this;
    const met = last !== null && page.messages.some(({ id }) => compareIds(id, last) <= 0);
    if (!met && page.hasMoreMessages && page.messages.length > 0) return [];
    this.#ahead = null;
    /** @type {News[]} */
    const news = [];
    // At the end of all history without having met what was known: unless the relay knows better, something is lost.
    if (ahead.recovered === false || (ahead.recovered === undefined && last !== null && !met)) news.push(this.#gapAfter(last ?? ''));
    for (const message of ahead.messages) {
      news.push(...this.#append([message]));
      if (ahead.gaps.has(message.id)) news.push(this.#gapAfter(message.id));
    }
    return news;
  }

  /**
   * @param {ChatMessage[]} messages
   * @returns {News[]}
   */
  #append(messages) {
    const first = this.messages[0]?.id;
    /** @type {News[]} */
    const news = [];
    for (const message of messages) {
      if (this.#ids.has(message.id)) continue;
      // Older than all that is here: it is there to be paged back to.
      if (first !== undefined && this.hasMoreMessages && compareIds(message.id, first) < 0) continue;
      insert(this.messages, message);
      this.#ids.add(message.id);
      news.push({ message });
    }
    const surplus = this.messages.length - this.#limit - this.#paged;
    if (surplus > 0) {
      for (const { id } of this.messages.splice(0, surplus)) {
        this.#ids.delete(id);
        this.gaps.delete(id);
      }
      this.gaps.delete('');
      this.hasMoreMessages = true;
    }
    return news;
  }

  /**
   * @param {string} id
   * @returns {News}
   */
  #gapAfter(id) {
    this.gaps.add(id);
    return { gap: id };
  }
}

/**
 * Puts a message in its place, which is nearly always the end, unless it is there.
 * @param {ChatMessage[]} messages  Oldest first.
 * @param {ChatMessage} message
 */
function insert(messages, message) {
  let place = messages.length;
  while (place > 0 && compareIds(messages[place - 1].id, message.id) > 0) place--;
  if (messages[place - 1]?.id !== message.id) messages.splice(place, 0, message);
}
