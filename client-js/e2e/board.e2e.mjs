/**
 * A board in Chromium, end to end: three pages on two nodes draw on it; the host
 * hands over, sends somebody away, and loses its node.
 *
 *   node e2e/board.e2e.mjs --url http://127.0.0.1:PORT --url2 http://127.0.0.1:PORT [--shots DIR]
 *
 * Nobody else makes rooms on the fleet meanwhile, and managing them needs no token.
 * When this prints READY-FOR-KILL, the node that --url leads to is to be killed.
 * Once it is dead, the caller writes KILLED to this program's standard input; by
 * then, or soon after, --url has to lead to a living node of the same fleet. Exits 0
 * if all went well.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { BoardUser, alike } from './boarduser.mjs';
import { start } from './stage.mjs';

const { values: { url, url2, shots } } = parseArgs({
  options: { url: { type: 'string' }, url2: { type: 'string' }, shots: { type: 'string' } },
});
if (!url || !url2) {
  console.error('usage: board.e2e.mjs --url http://HOST:PORT --url2 http://HOST:PORT [--shots DIR]');
  process.exit(2);
}
const { users, enter, check, nextLine, finish } = await start(BoardUser, shots);

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const TABLET = { viewport: { width: 768, height: 1024 }, isMobile: true, hasTouch: true };

/** How long a room may be without a host after its node has died, in ms. */
const HOSTLESS = 15_000;

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

await finish(run);

async function run() {
  const a = await enter(`${url}/#board`);
  await a.shot(shots, 'board-menu-light');
  const link = await a.make();
  const b = await enter(`${url2}/${link}`);
  const c = await enter(`${url2}/${link}`);
  for (const user of [b, c]) await user.drawn();

  await check('each sees who is here, and who is host', async () => {
    await a.sees('Guest 1 (you)', 'Guest 2', 'Guest 3');
    await b.sees('Guest 1', 'Guest 2 (you)', 'Guest 3');
    await c.sees('Guest 1', 'Guest 2', 'Guest 3 (you)');
    for (const user of [b, c]) await user.follows('Guest 1');
    assert.equal(await b.page.locator('.person button:visible').count(), 0, 'only the host has buttons');
    assert.equal(await b.page.isVisible('#board-clear'), false);
    assert.equal(await a.page.locator('.person button:visible').count(), 4);
  });

  await check('all draw, and all see the same', async () => {
    await a.draw([10, 20], [30, 60], [50, 20]);
    await b.draw([60, 20], [80, 60], [90, 20]);
    await c.page.click('.pens label:nth-of-type(3)');
    await c.draw([20, 80], [50, 70], [80, 85]);
    await c.draw([50, 50]);
    await alike([a, b, c], 4);
    assert.ok(await a.inked() > 1_000);
    await a.shot(shots, 'board-light');
  });

  await check('all draw at once', async () => {
    await Promise.all([a, b, c].map((user, i) => user.draw(...Array.from({ length: 12 }, (_, j) => [8 + j * 7, 30 + i * 10 + (j % 2) * 20]))));
    await alike([a, b, c], 7);
  });

  await check('whoever comes later gets the drawing, on a phone too', () => onPhone(link, [a, b, c]));
  await check('it can be done by keyboard', () => byKeyboard(b, [a, b, c]));
  await check('the host hands over, and all go on', () => handOver(a, b, c));
  await check('the host sends somebody away, who comes back', () => sendAway(a, b, c));
  await check('the host clears the board', async () => {
    await a.page.click('#board-clear');
    await alike([a, b, c], 0);
    assert.equal(await b.inked(), 0);
    await b.draw([10, 10], [40, 40]);
    await c.draw([40, 10], [10, 40]);
    await alike([a, b, c], 2);
  });
  await check('a page that is loaded anew is who it was', async () => {
    await c.page.reload();
    await c.drawn();
    await c.reads('You are back as guest 3');
    await alike([a, b, c], 2);
    await a.sees('Guest 1 (you)', 'Guest 2', 'Guest 3');
  });
  await check('what makes no sense is said', () => nonsense());

  await check('the page asked nobody else and broke no rule of its own', async () => {
    for (const user of users) {
      assert.deepEqual(user.troubles.filter((trouble) => !/status of (4|503)/.test(trouble)), []);
      for (const origin of user.origins) assert.ok([new URL(url).origin, new URL(url2).origin, 'null'].includes(origin), origin);
    }
  });

  await check('the host\'s node is killed: another one leads, nothing is lost, and the first comes back as who it was', () => killed(a, b, c));
  await check('who leaves is gone, a board that all have closed is kept, and one that the last has left ends', () => leaving(a, b, c, link));
}

/** Someone comes on a phone, draws by touch, and goes. */
async function onPhone(link, others) {
  const phone = await enter(`${url}/${link}`, PHONE);
  const { page } = phone;
  await phone.drawn();
  await phone.shows(7);
  assert.ok(await phone.inked() > 1_000);
  await phone.fits();
  assert.equal(await page.isVisible('.brand'), false);
  const { x, y, width, height } = await page.locator('#canvas').boundingBox();
  assert.ok(width > 320 && height > 240, 'the board is as wide as the screen');
  await page.touchscreen.tap(x + width / 2, y + height / 4);
  for (const user of [phone, ...others]) await user.shows(8);
  for (const control of ['#board .back', '#board-copy', '#board-leave', '.pens label']) {
    const box = await page.locator(control).first().boundingBox();
    assert.ok(box.width >= 40 && box.height >= 40, `${control} is big enough for a thumb`);
  }
  await phone.shot(shots, 'board-phone-light');
  await page.emulateMedia({ colorScheme: 'dark' });
  await phone.shot(shots, 'board-phone-dark');
  await page.tap('#board .back');
  await page.waitForSelector('.brand', { state: 'visible' });
  assert.equal(await page.isVisible('#canvas'), false);
  await phone.fits();
  await phone.shot(shots, 'board-phone-menu-dark');
  await page.tap('#to-drawing');
  await page.waitForSelector('#canvas', { state: 'visible' });
  await page.tap('#board-leave');
  await page.waitForSelector('#board-out', { state: 'visible' });
  for (const user of others) await user.reads('Guest 4 left');
}

/** Someone draws without a mouse. */
async function byKeyboard(user, all) {
  const { page } = user;
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  await page.focus('#board-leave');
  await press('Tab');
  assert.equal(await user.focus(), '#canvas');
  assert.equal(await page.isVisible('#canvas-cursor'), true);
  await press('Shift+ArrowLeft', 'ArrowUp', 'Space', 'ArrowRight', 'ArrowRight', 'Shift+ArrowDown', 'ArrowLeft');
  await user.shot(shots, 'board-keyboard-light');
  await press('Space', 'ArrowRight');
  await alike(all, 9);
  await press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'pen');
  assert.equal(await page.isVisible('#canvas-cursor'), false);
  await press('ArrowRight');
  assert.equal(await page.evaluate(() => document.querySelector('[name="pen"]:checked').value), '2');
}

/** On a tablet that is held upright the drawing is as wide as the screen, and who is there below it. */
async function onTablet(user) {
  const sheet = await user.page.locator('#canvas').boundingBox();
  assert.ok(sheet.width > 700, `the drawing is ${sheet.width} wide`);
  const people = await user.page.locator('#people').boundingBox();
  assert.ok(people.y > sheet.y + sheet.height, 'who is there is below it');
  await user.page.tap('#board .back');
  await user.page.waitForSelector('.brand', { state: 'visible' });
  await user.shot(shots, 'board-tablet-menu-light');
  await user.page.tap('#to-drawing');
  await user.page.waitForSelector('.brand', { state: 'hidden' });
}

/** a makes b host, and b gives it back, while c draws. */
async function handOver(a, b, c) {
  const tablet = await enter(`${a.page.url()}`, TABLET);
  const phone = await enter(`${a.page.url()}`, PHONE);
  for (const user of [tablet, phone]) await user.drawn();
  await onTablet(tablet);
  const places = await Promise.all([a, tablet, phone].map((user) => user.page.locator('#canvas').boundingBox()));
  const drawing = c.draw(...Array.from({ length: 30 }, (_, i) => [5 + i * 3, 90 + (i % 2) * 5]));
  await a.button('Guest 2', '.make-host').click();
  await b.hosts();
  for (const user of [a, c]) {
    await user.follows('Guest 2');
    await user.reads('Guest 2 is the host now');
    assert.equal(await user.page.textContent('#board-notice-text'), 'The host has changed: it is Guest 2 now.');
    assert.equal(await user.page.isVisible('#board-notice'), true);
    await user.apart('#board-notice');
  }
  for (const user of [tablet, phone]) {
    await user.follows('Guest 2');
    await user.page.waitForSelector('#board-notice', { state: 'visible' });
    await user.apart('#board-notice');
    await user.fits();
  }
  await tablet.shot(shots, 'board-tablet-light');
  await phone.shot(shots, 'board-phone-moved-light');
  const after = await Promise.all([a, tablet, phone].map((user) => user.page.locator('#canvas').boundingBox()));
  assert.deepEqual(after, places, 'a notice moves no drawing');
  await b.button('Guest 6', '.make-host').click();
  await phone.hosts();
  await phone.page.locator('.person .kick').first().scrollIntoViewIfNeeded();
  await phone.apart('#board-notice');
  await phone.shot(shots, 'board-phone-host-light');
  await phone.button('Guest 2', '.make-host').tap();
  await b.hosts();
  for (const user of [tablet, phone]) {
    await user.page.locator('#board-leave').tap();
    await user.page.waitForSelector('#board-out', { state: 'visible' });
    await user.page.close();
  }
  await b.reads('You are the host');
  await drawing;
  await alike([a, b, c], 10);
  await a.draw([5, 5], [20, 10]);
  await alike([a, b, c], 11);
  await b.shot(shots, 'board-moved-light');
  await b.button('Guest 1', '.make-host').focus();
  await b.page.keyboard.press('Enter');
  await a.hosts();
  await alike([a, b, c], 11);
}

/** a sends c away, who comes back by the link. */
async function sendAway(a, b, c) {
  await a.button('Guest 3', '.kick').click();
  await c.page.waitForSelector('#board-out', { state: 'visible' });
  assert.match(await c.page.textContent('#board-problem'), /sent you away/);
  await c.shot(shots, 'board-kicked-light');
  for (const user of [a, b]) await user.reads('Guest 3 left');
  await a.draw([50, 5], [60, 10]);
  await c.page.click('#board-join [type="submit"]');
  await c.drawn();
  await a.sees('Guest 1 (you)', 'Guest 2', 'Guest 3');
  await alike([a, b, c], 12);
}

/** Links that lead nowhere, and relays that have no rooms. */
async function nonsense() {
  const user = await enter(`${url2}/#board=1.1`);
  const { page } = user;
  const problem = (pattern) => page.waitForFunction((source) => new RegExp(source).test(document.querySelector('#board-problem').textContent), pattern);
  await problem('not to be had');
  await page.fill('#board-link', 'nothing');
  await page.press('#board-link', 'Enter');
  assert.match(await page.textContent('#board-link-error'), /no link/);
  await user.shot(shots, 'board-problem-light');

  await page.route('**/v1/api/**', (route) => route.fulfill({ status: 404, contentType: 'text/plain', body: 'NOT_A_RELAY' }));
  await page.click('#board-make');
  await problem('has no rooms');
  await page.routeWebSocket('**/v1/websocket', (routed) => routed.close({ code: 1011 }));
  await page.goto('about:blank');
  await page.goto(`${url2}/#board=1.1`);
  await problem('has no rooms');
  await page.unroute('**/v1/api/**');
  const answer = (code, message) => page.route('**/v1/api/**', (route) => route.fulfill({ status: code, json: { code, message } }), { times: 1 });
  await answer(503, 'not now');
  await page.click('#board-make');
  await problem('not to be had right now');
  await answer(400, 'no place');
  await page.click('#board-make');
  await problem('too many boards');
  await answer(401, 'a token is needed');
  await page.click('#board-make');
  await problem('its token');
  let token = '';
  await page.route('**/v1/api/**', (route) => {
    if (route.request().method() === 'POST') token = route.request().headers().authorization;
    return route.continue();
  });
  await page.fill('#board-token', 'let me');
  await page.click('#board-make');
  // Nothing comes of it here: the socket is still refused.
  await page.waitForSelector('#board-trouble', { state: 'visible' });
  assert.equal(token, 'Bearer let me');
  await user.shot(shots, 'board-trouble-light');
  await page.click('#board-leave');
  await page.waitForSelector('#board-out', { state: 'visible' });
}

/** a is host, and loses its node, while all draw. */
async function killed(a, b, c) {
  await a.draw([70, 70], [90, 90]);
  await alike([a, b, c], 3);
  const drawing = Promise.all([b, c].map((user, i) => user.draw(...Array.from({ length: 20 }, (_, j) => [5 + j * 4, 60 + i * 10 + (j % 3) * 4]))));
  console.log('READY-FOR-KILL');
  assert.equal(await nextLine(), 'KILLED');
  const since = Date.now();
  await drawing;
  await b.draw([10, 45], [30, 55]);
  await a.draw([60, 45], [80, 55]); // without a connection, or to the next host
  await sleep(2_500);
  await b.shot(shots, 'board-silent-light');
  await b.hosts();
  const took = await b.hostSince() - since;
  assert.ok(took < HOSTLESS, `no host for ${took} ms`);
  console.log(`the next host after ${took} ms`);
  await c.follows('Guest 2');
  for (const user of [b, c]) await user.page.waitForSelector('#board-notice', { state: 'visible' });
  await c.draw([10, 30], [20, 20]);
  await a.reads('You are back as guest 1');
  await a.follows('Guest 2');
  await a.page.waitForFunction(() => {
    const lines = [...document.querySelectorAll('#happened li span')].map((line) => line.textContent); // the newest first
    return lines.slice(0, lines.indexOf('You are back as guest 1')).includes('Guest 2 is the host now');
  });
  await alike([a, b, c], 8);
  await a.draw([30, 30], [40, 20]);
  await alike([a, b, c], 9);
  assert.ok((await a.events()).includes('Connection lost'));
  assert.ok((await c.events()).includes('Guest 2 is the host now'));
  await a.sees('Guest 1 (you)', 'Guest 2', 'Guest 3');
  assert.equal(await a.page.isVisible('#board-trouble'), false);
  assert.equal(await a.page.textContent('#board-notice-text'), 'The host has changed: it is Guest 2 now.');
  await a.shot(shots, 'board-back-light');
}

/** All go; while somebody only closes the page, the board is kept, and it ends when the last one leaves. */
async function leaving(a, b, c, link) {
  await b.page.click('#board-leave');
  await a.hosts();
  await a.sees('Guest 1 (you)', 'Guest 3');
  await alike([a, c], 9);
  await c.page.click('#board-leave');
  await a.sees('Guest 1 (you)');
  await a.page.waitForSelector('#board-alone', { state: 'visible' });
  await a.page.reload();
  await a.hosts();
  await a.shows(9);
  await a.page.close();
  const d = await enter(`${url2}/${link}`);
  await d.hosts();
  await d.shows(0);
  await d.sees('Guest 7 (you)');
  assert.equal(await committed(), 10);
  await d.page.waitForSelector('#board-alone', { state: 'visible' });
  await d.page.click('#board-leave');
  await until(async () => await committed() === 0);
  await d.page.goto('about:blank');
  await d.page.goto(`${url2}/${link}`);
  await d.page.waitForFunction(() => /not to be had/.test(document.querySelector('#board-problem').textContent));
  for (let i = 0; i < 11; i++) {
    await d.make();
    await d.page.waitForSelector('#board-alone', { state: 'visible' });
    await d.page.click('#board-leave');
    await d.page.waitForSelector('#board-out', { state: 'visible' });
  }
  await until(async () => await committed() === 0);
}

/** How many places the boards take of all that there are. */
async function committed() {
  const answer = await fetch(`${url2}/v1/api/summary`);
  return (await answer.json()).data.committed_clients;
}

/** Waits until something holds. */
async function until(holds) {
  const deadline = Date.now() + 10_000;
  while (!await holds()) {
    assert.ok(Date.now() < deadline, 'not in time');
    await sleep(20);
  }
}
