/** The board of the sample app as one of those who draw on it sees it. */

import assert from 'node:assert/strict';
import { User } from './browser.mjs';

/** Someone who looks at the board's side of the app. */
export class BoardUser extends User {
  async connected() {
    await this.page.waitForSelector('#board-out:not([hidden]), #board-in:not([hidden])');
    return '';
  }

  /** Waits until the drawing is there. */
  async drawn() {
    await this.page.waitForSelector('#canvas-waiting', { state: 'hidden' });
    await this.page.waitForSelector('#board-status[data-state="open"]', { state: 'attached' });
  }

  /** Makes a board, and returns the end of its link. */
  async make() {
    await this.page.click('#board-make');
    await this.hosts();
    await this.drawn();
    return new URL(this.page.url()).hash;
  }

  /** Waits until this page is host. */
  async hosts() {
    await this.page.waitForSelector('#board-host[data-host="me"]');
  }

  /** When this page became host the last time, in ms since the epoch. */
  async hostSince() {
    const line = this.page.locator('#happened li', { hasText: 'You are the host' }).first();
    return Date.parse(await line.locator('time').getAttribute('datetime'));
  }

  /** Waits until somebody else is host, by name. */
  async follows(name) {
    await this.page.waitForFunction((wanted) => document.querySelector('#board-host').textContent === `Host: ${wanted}`, name);
  }

  /** Waits until these are here, in this order. */
  async sees(...names) {
    await this.page.waitForFunction((wanted) => JSON.stringify([...document.querySelectorAll('.person .name')]
      .map((name) => name.textContent)) === JSON.stringify(wanted), names);
  }

  /** Draws a line through points, in hundredths of the board, and returns how many strokes there were before. */
  async draw(...points) {
    const before = await this.strokes();
    const { x, y, width, height } = await this.page.locator('#canvas').boundingBox();
    const at = ([across, down]) => [x + across * width / 100, y + down * height / 100];
    await this.page.mouse.move(...at(points[0]));
    await this.page.mouse.down();
    for (const point of points.slice(1)) await this.page.mouse.move(...at(point), { steps: 5 });
    await this.page.mouse.up();
    return before;
  }

  /** Nothing that one looks at or presses may be covered by a bar. */
  async apart(bar) {
    const covered = await this.page.evaluate((selector) => {
      const box = document.querySelector(selector).getBoundingClientRect();
      return [...document.querySelectorAll('#board-title, #board-host, #canvas, .pens, .person, .person button, #board-copy, #board-leave')]
        .filter((element) => element.checkVisibility()).map((element) => [element.id || element.className, element.getBoundingClientRect()])
        .filter(([, { left, right, top, bottom }]) => left < box.right && right > box.left && top < box.bottom && bottom > box.top)
        .map(([name]) => name);
    }, bar);
    assert.deepEqual(covered, []);
  }

  /** How many strokes the page shows that the host has told. */
  async strokes() {
    return Number(/(\d+) strokes/.exec(await this.page.getAttribute('#canvas', 'aria-label'))[1]);
  }

  /** Waits until the page shows so many strokes, and nothing of its own waits for the host. */
  async shows(count) {
    await this.page.waitForFunction((wanted) => {
      const { dataset, ariaLabel } = document.querySelector('#canvas');
      return ariaLabel === `The drawing: ${wanted} strokes` && dataset.pending === '0';
    }, count);
  }

  /** What is on the screen, as text. */
  picture() {
    // With the frame after the next one, what was to be shown is.
    return this.page.evaluate(() => new Promise((resolve) => {
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(document.querySelector('#canvas').toDataURL())));
    }));
  }

  /** How many of the points of the picture have any colour. */
  inked() {
    return this.page.evaluate(() => {
      const canvas = document.querySelector('#canvas');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((alpha, i) => i % 4 === 3 && alpha > 0).length;
    });
  }

  /** What happened, the newest first. */
  events() {
    return this.page.locator('#happened li span').allTextContents();
  }

  /** Waits for a line that tells what happened. */
  async reads(text) {
    await this.page.waitForFunction((wanted) => [...document.querySelectorAll('#happened li span')]
      .some((line) => line.textContent === wanted), text);
  }

  /** A button of the line of somebody. */
  button(name, which) {
    return this.page.locator('.person', { hasText: name }).locator(which);
  }
}

/** How long pages may show different drawings, in ms: what one has drawn is on its way to the others. */
const DIFFER = 10_000;

/** Waits until all pages show the same, which is so many strokes. */
export async function alike(users, strokes) {
  for (const user of users) await user.shows(strokes);
  const deadline = Date.now() + DIFFER;
  for (;;) {
    const pictures = await Promise.all(users.map((user) => user.picture()));
    if (pictures.every((picture) => picture === pictures[0])) return;
    // Not by assert.equal, which would print them.
    assert.ok(Date.now() < deadline, 'the pages show different drawings');
  }
}
