/** What the notification centre tells, as events have it. */

import { badAnswer } from './pullerror.js';

const ID = /^\d{1,20}-\d{1,20}$/;

/**
 * @param {string | null} place
 * @throws {TypeError} when it cannot be the id of a notification.
 */
export function checkedPlace(place) {
  if (place !== null && !ID.test(place)) throw new TypeError('this is no place');
  return place;
}

/** A notification by its event; one of a type that only later relays have is "other". @typedef {{type: "private" | "group" | "groupcreated" | "gap" | "other", detail: any}} Notification */

/**
 * @param {any} value
 * @returns {Notification}
 */
export function notificationOf(value) {
  const { notification, id, from, group } = value ?? {};
  if (typeof id !== 'string' || !ID.test(id)) throw badAnswer('a notification without an id');
  const time = Number(id.split('-')[0]) || Date.now(); // 0: a gap before everything
  if (notification === 'new_private_message' && typeof from === 'string') return { type: 'private', detail: { from, id, time } };
  if (notification === 'new_group_message' && typeof group === 'string') return { type: 'group', detail: { group, id, time } };
  if (notification === 'group_created' && typeof group === 'string') return { type: 'groupcreated', detail: { group, id, time } };
  return { type: notification === 'gap' ? 'gap' : 'other', detail: { id, time } };
}
