/** What the page says besides what it shows: to those who do not see it, and in the title of its tab. */

import { page } from './elements.js';

/** Unread messages, by side. */
const unread = { direct: 0, rooms: 0, people: 0 };

/**
 * Says something to those who do not see it.
 * @param {string} text
 */
export function announce(text) {
  if (text) page.announcer.textContent = text;
}

/**
 * Shows how many messages of a side are unread.
 * @param {"direct" | "rooms" | "people"} side
 * @param {number} count
 */
export function showUnread(side, count) {
  unread[side] = count;
  const badge = { direct: page.directUnread, rooms: page.roomsUnread, people: page.peopleUnread }[side];
  fillBadge(badge, count);
  const sum = unread.direct + unread.rooms + unread.people;
  document.title = sum ? `(${sum}) Parley` : 'Parley';
}

/**
 * @param {HTMLElement} badge
 * @param {number} count
 */
export function fillBadge(badge, count) {
  badge.hidden = count === 0;
  badge.textContent = count > 99 ? '99+' : String(count);
  badge.setAttribute('aria-label', `${count} unread`);
}
