/**
 * What a room's log is made of: messages, days, and notes. What others wrote
 * enters the page as text nodes only.
 */

import { clone, find } from './elements.js';

/** @import {ChatMessage, ChatRoom} from '/chat.js' */

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
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
 * @param {ChatRoom} room
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
    const date = new Date(message.timestamp);
    const today = date.toDateString();
    if (today !== last) {
      lines.push({ key: `day ${today}`, make: () => makeDay(date), follows: false });
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
 * A time of day.
 * @param {HTMLElement} element
 * @param {number} timestamp
 */
export function showTime(element, timestamp) {
  const date = new Date(timestamp);
  element.setAttribute('datetime', date.toISOString());
  element.setAttribute('title', `${day.format(date)}, ${clock.format(date)}`);
  element.textContent = clock.format(date);
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

/** @param {Date} date */
function makeDay(date) {
  const item = clone('note');
  item.classList.replace('note', 'day');
  const ago = Math.round((new Date(date.toDateString()).getTime() - new Date(new Date().toDateString()).getTime()) / DAY);
  const words = ago === 0 || ago === -1 ? relative.format(ago, 'day') : day.format(date);
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
