/** The sample app: direct messages on one side, rooms on another, a board on the third; the address bar says which. */

import { hideBoard, showBoard } from './boardside.js';
import { hideRooms, showRooms } from './chatside.js';
import { hideDirect, showDirect } from './direct.js';
import { page } from './elements.js';

/** @type {Record<string, {link: HTMLElement, show: (hash: string) => void, hide: () => void}>} */
const sides = {
  direct: { link: page.toDirect, show: showDirect, hide: hideDirect },
  rooms: { link: page.toRooms, show: showRooms, hide: hideRooms },
  board: { link: page.toBoard, show: showBoard, hide: hideBoard },
};

function showWhatHashSays() {
  const { hash } = location;
  const wanted = /^#rooms?(=|$)/.test(hash) ? 'rooms' : /^#board(=|$)/.test(hash) ? 'board' : 'direct';
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
