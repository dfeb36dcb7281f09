/** The list of notifications: the last ones first, those of a kind that follow each other in one line. */

import { clone, find, page } from './elements.js';
import { showTime } from './roomlines.js';

/** @import {Note, NoteType} from './notebook.js' */

/** Lines that are shown. */
const LINES = 30;

/** @type {Record<NoteType, (count: number) => string>} */
const words = {
  private: (count) => (count === 1 ? 'wrote to you' : `wrote to you ${count} times`),
  group: (count) => (count === 1 ? 'has a message' : `has ${count} messages`),
  joined: () => 'has you as a member',
  grown: () => 'has a new member',
  gap: () => 'Some notifications may be missing here',
};

/**
 * Shows what has come.
 * @param {readonly Note[]} notes  Oldest first.
 */
export function showNotices(notes) {
  /** @type {{note: Note, count: number}[]} */
  const lines = [];
  for (const note of [...notes].reverse()) {
    const last = lines.at(-1);
    if (last && last.note.type === note.type && last.note.name === note.name) last.count++;
    else if (lines.length === LINES) break;
    else lines.push({ note, count: 1 });
  }
  page.noNotices.hidden = lines.length > 0;
  const focused = [...page.notices.querySelectorAll('a')].findIndex((link) => link === document.activeElement);
  page.notices.replaceChildren(...lines.map(({ note, count }) => {
    const item = clone('told');
    showTime(find(item, 'time'), note.time, true);
    find(item, 'bdi').textContent = note.name;
    find(item, '.words').textContent = words[note.type](count);
    if (note.type !== 'gap') find(item, 'a').setAttribute('href', `#${note.type === 'private' ? 'person' : 'group'}=${encodeURIComponent(note.name)}`);
    return item;
  }));
  if (focused >= 0) page.notices.querySelectorAll('a')[focused]?.focus();
}
