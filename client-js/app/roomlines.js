/**
 * What a room's log is made of: messages, days, and notes. What others wrote
 * enters the page as text nodes only.
 */

import { clone, find } from './elements.js';

/** @import {ChatMessage, ChatRoom} from '/chat.js' */

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

const DAY = 24 * 3_600_000;

/** Apart by so much, in ms, two messages of one user name their author each. */
const PAUSE = 5 * 60_000;

/** What stands where messages may be missing. */
const GAP = 'Messages may be missing here.';

/**
 * A line of a log; of two with one key the older one is used again.
 * @typedef {{key: string, make: () => HTMLElement, follows: boolean}} Line
 */

/**
 * The lines of a room, from top to bottom.
 * @param {Pick<ChatRoom, "messages" | "gaps">} room
 * @param {number} me
 * @returns {Line[]}
 */
export function linesOf({ messages, gaps }, me) {
  /** @type {Line[]} */
  const lines = [];
  let last = '';
  /** @type {ChatMessage | null} */
  let before = null;
  if (gaps.has('')) lines.push(note('gap'));
  for (const message of messages) {
    const time = new Date(message.timestamp);
    const today = time.toDateString();
    if (today !== last) {
      lines.push({ key: `day ${today}`, make: () => makeDay(time), follows: false });
      before = null;
    }
    last = today;
    const follows = before?.user.id === message.user.id && message.timestamp - before.timestamp < PAUSE;
    lines.push({ key: message.id, make: () => makeMessage(message, me), follows });
    before = message;
    if (gaps.has(message.id)) {
      lines.push(note(`gap ${message.id}`));
      before = null;
    }
  }
  return lines;
}

/**
 * A time of day, and another day where it says so.
 * @param {HTMLElement} element
 * @param {number} timestamp
 * @param {boolean} [withDay]  Whether a day that is not today is shown instead.
 */
export function showTime(element, timestamp, withDay = false) {
  const time = new Date(timestamp);
  element.setAttribute('datetime', time.toISOString());
  element.setAttribute('title', `${day.format(time)}, ${clock.format(time)}`);
  element.textContent = withDay && time.toDateString() !== new Date().toDateString() ? date.format(time) : clock.format(time);
}

/**
 * A colour of its own for a user.
 * @param {HTMLElement} element
 * @param {number} id
 */
export function colour(element, id) {
  // The golden angle: neighbours differ most.
  element.style.setProperty('--hue', String(Math.round(id * 137.5) % 360));
}

/** @param {string} key */
function note(key) {
  return {
    key,
    make: () => {
      const item = clone('note');
      item.textContent = GAP;
      return item;
    },
    follows: false,
  };
}

/** @param {Date} time */
function makeDay(time) {
  const item = clone('note');
  item.classList.replace('note', 'day');
  const ago = Math.round((new Date(time.toDateString()).getTime() - new Date(new Date().toDateString()).getTime()) / DAY);
  const words = ago === 0 || ago === -1 ? relative.format(ago, 'day') : day.format(time);
  item.textContent = words.slice(0, 1).toLocaleUpperCase() + words.slice(1);
  return item;
}

/**
 * @param {ChatMessage} message
 * @param {number} me
 */
function makeMessage({ id, content, user, timestamp }, me) {
  const item = clone('roomMessage');
  const mine = user.id === me;
  item.dataset.id = id;
  item.classList.add(mine ? 'mine' : 'theirs');
  const author = find(item, '.author');
  author.textContent = mine ? 'You' : user.username;
  author.classList.toggle('sr-only', mine);
  colour(author, user.id);
  find(item, '.body').textContent = content;
  showTime(find(item, 'time'), timestamp);
  return item;
}
