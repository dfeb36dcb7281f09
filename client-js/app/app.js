/** The sample app: direct messages on one side, rooms on another, people and groups on the third, a board on the fourth; the address bar says which. */

import { hideBoard, showBoard } from './boardside.js';
import { hideRooms, showRooms } from './chatside.js';
import { hideDirect, showDirect } from './direct.js';
import { page } from './elements.js';
import { hidePeople, showPeople } from './peopleside.js';

/** @type {Record<string, {link: HTMLElement, show: (hash: string) => void, hide: () => void}>} */
const sides = {
  direct: { link: page.toDirect, show: showDirect, hide: hideDirect },
  rooms: { link: page.toRooms, show: showRooms, hide: hideRooms },
  people: { link: page.toPeople, show: showPeople, hide: hidePeople },
  board: { link: page.toBoard, show: showBoard, hide: hideBoard },
};

function showWhatHashSays() {
  const { hash } = location;
  const wanted = /^#rooms?(=|$)/.test(hash) ? 'rooms' : /^#(people$|newgroup$|person=|group=)/.test(hash) ? 'people' : /^#board(=|$)/.test(hash) ? 'board' : 'direct';
  document.body.dataset.side = wanted;
  for (const [name, { link, hide }] of Object.entries(sides)) {
    mark(link, name === wanted);
    if (name !== wanted) hide();
  }
  sides[wanted].show(hash);
}

/**
 * @param {HTMLElement} link
 * @param {boolean} current
 */
function mark(link, current) {
  if (current) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}

window.addEventListener('hashchange', showWhatHashSays);
showWhatHashSays();
