/**
 * Rooms in Chromium, end to end: users on two nodes sign in, talk, see each
 * other, read back, and one of them loses her node.
 *
 *   node e2e/rooms.e2e.mjs --url http://127.0.0.1:PORT --url2 http://127.0.0.1:PORT [--shots DIR]
 *
 * The fleet has accounts, at least two rooms, and nothing in them, and sets no
 * limit to how much one client writes. When this prints READY-FOR-KILL, the node
 * that --url leads to is to be killed. Once it is dead, the caller writes KILLED
 * to this program's standard input; by then, or soon after, --url has to lead to
 * a living node of the same fleet. Exits 0 if all went well.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { PASSWORD, RoomUser } from './roomuser.mjs';
import { start } from './stage.mjs';

const { values: { url, url2, shots } } = parseArgs({
  options: { url: { type: 'string' }, url2: { type: 'string' }, shots: { type: 'string' } },
});
if (!url || !url2) {
  console.error('usage: rooms.e2e.mjs --url http://HOST:PORT --url2 http://HOST:PORT [--shots DIR]');
  process.exit(2);
}
const { users, enter, check, nextLine, finish } = await start(RoomUser, shots);

const PHONE = { viewport: { width: 400, height: 760 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const MARKUP = '<img src=x onerror="window.hacked = 1"><b>bold</b>&amp;<script>window.hacked = 2</script>';

/** How many messages there are to read back: several pages. */
const OLD = 350;

/** Texts with numbers, from one to another, both included. */
const texts = (what, from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${what} ${from + i}`);

await finish(run);

async function run() {
  const a = await enter(url);
  const b = await enter(url2, { colorScheme: 'dark' });

  await check('wrong fields and wrong passwords are told where they belong', () => signingIn(a, b));

  const [room, other] = await a.roomIds();

  await check('what one writes the other reads, on another node', async () => {
    await a.choose(room);
    await b.choose(room);
    await a.write('Good morning, all');
    await b.reads('Good morning, all');
    assert.equal(await b.page.textContent('#room-slot .theirs .author'), 'maria');
    await b.write('And to you.\nWhat a view.');
    await a.reads('And to you.\nWhat a view.');
    assert.deepEqual(await a.heard(), await b.heard());
    assert.equal(await a.page.locator('#room-slot .day').count(), 1, 'the day stands above');
  });

  await check('they see who is here', async () => {
    for (const user of [a, b]) await user.page.waitForFunction(() => document.querySelector('#here-count').textContent === '2 here');
    assert.deepEqual(await a.here(), ['maria (you)', 'yusuf']);
    await a.page.click('#here-count');
    await a.shot(shots, 'rooms-here-light');
    await a.page.keyboard.press('Escape');
    assert.equal(await a.page.isVisible('#here-list'), false);
    await b.page.goto('about:blank');
    await a.page.waitForFunction(() => document.querySelector('#here-count').textContent === '1 here');
    await b.page.goto(`${url2}/#room=${encodeURIComponent(room)}`);
    await a.page.waitForFunction(() => document.querySelector('#here-count').textContent === '2 here');
    await b.page.waitForSelector('#room:not([hidden])');
  });

  await check('they see who is typing, until it has come', async () => {
    await b.page.focus('#room-text');
    await b.page.keyboard.type('Look');
    await a.page.waitForFunction(() => document.querySelector('#typing').textContent === 'yusuf is typing');
    assert.equal(await b.page.textContent('#typing'), '', 'and not that they type themselves');
    await b.page.keyboard.press('Enter');
    await a.reads('Look');
    assert.equal(await a.page.textContent('#typing'), '');
  });

  await check('what is written elsewhere is counted, until it is read', async () => {
    await b.choose(other);
    await b.write('Anyone here?');
    await b.write('It is dark in here');
    await a.unread(other, 2);
    assert.equal(await a.page.title(), '(2) Parley');
    assert.equal(await a.link(other).locator('.last').textContent(), 'yusuf: It is dark in here');
    await a.shot(shots, 'rooms-unread-light');
    await a.page.click('#to-direct');
    await a.page.waitForSelector('#welcome', { state: 'visible' });
    assert.equal(await a.page.textContent('#rooms-unread'), '2');
    await a.page.click('#to-rooms');
    await a.choose(other);
    await a.unread(other, 0);
    assert.equal(await a.page.title(), 'Parley');
  });

  await check('text from others is never markup', async () => {
    await b.write(MARKUP);
    await a.reads(MARKUP);
    for (const { page } of [a, b]) {
      assert.equal(await page.locator('.log img, .log b, .log script, .room img, .room b').count(), 0);
      assert.equal(await page.evaluate(() => window.hacked), undefined);
    }
  });

  await check('history comes by scrolling up, over several pages, and nothing jumps', () => readBack(a, b, room, other));
  await check('all can be done by keyboard', () => byKeyboard());
  await check('it fits on a phone', () => onPhone(b, room));
  await check('what is refused can be sent again', () => sendAgain());
  await check('where messages may be missing, it says so', () => missing());
  await check('days stand between the messages, and history that does not come can be asked for again', () => days(room));

  await check('the page asked nobody else and broke no rule of its own', async () => {
    for (const user of users) {
      // The answers that say no are among what a browser calls errors.
      assert.deepEqual(user.troubles.filter((trouble) => !/status of 400/.test(trouble)), []);
      for (const origin of user.origins) assert.ok([new URL(url).origin, new URL(url2).origin, 'null'].includes(origin), origin);
    }
  });

  await check('a node is killed between two messages: neither hole nor double', () => killed(a, b, other));
  await check('signing out in one tab ends the others', () => signingOut(a));
}

/** a and b get accounts, not at the first try. */
async function signingIn(a, b) {
  const { page } = a;
  await a.shot(shots, 'rooms-signin-light');
  await page.click('#login [type="submit"]');
  assert.match(await page.textContent('#login-email-error'), /missing/);
  assert.match(await page.textContent('#login-password-error'), /missing/);
  assert.equal(await a.focus(), '#login-email');
  await page.fill('#login-email', 'maria@example.com');
  await page.fill('#login-password', PASSWORD);
  assert.equal(await page.textContent('#login-email-error'), '', 'what is being put right is wrong no more');
  await page.press('#login-password', 'Enter');
  await page.waitForFunction(() => /wrong/.test(document.querySelector('#login-error').textContent));

  await page.click('#to-signup');
  assert.equal(await a.focus(), '#signup-username');
  await page.fill('#signup-username', 'm');
  await page.fill('#signup-email', 'nowhere');
  await page.fill('#signup-password', 'short');
  await page.press('#signup-password', 'Enter');
  for (const field of ['username', 'email', 'password']) {
    assert.notEqual(await page.textContent(`#signup-${field}-error`), '', field);
    assert.equal(await page.getAttribute(`#signup-${field}`, 'aria-invalid'), 'true');
  }
  await a.shot(shots, 'rooms-signup-errors-light');
  await page.click('#to-login');
  await a.signUp('maria');

  await b.page.click('#to-signup');
  await b.page.fill('#signup-username', 'maria');
  await b.page.fill('#signup-email', 'yusuf@example.com');
  await b.page.fill('#signup-password', PASSWORD);
  await b.page.press('#signup-password', 'Enter');
  await b.page.waitForFunction(() => /already/.test(document.querySelector('#signup-username-error').textContent));
  await b.shot(shots, 'rooms-signup-taken-dark');
  await b.page.fill('#signup-username', 'yusuf');
  await b.page.fill('#signup-email', 'maria@example.com');
  await b.page.press('#signup-password', 'Enter');
  await b.page.waitForFunction(() => /already/.test(document.querySelector('#signup-email-error').textContent));
  assert.equal(await b.focus(), '#signup-email');
  await b.page.click('#to-login');
  await b.signUp('yusuf');

  // A wrong password, of an account that is there.
  await b.page.click('#logout');
  await b.page.waitForSelector('#login');
  await b.page.fill('#login-email', 'yusuf@example.com');
  await b.page.fill('#login-password', 'correct horse');
  await b.page.press('#login-password', 'Enter');
  await b.page.waitForFunction(() => document.querySelector('#login-error').textContent === 'The email or the password is wrong.');
  await b.shot(shots, 'rooms-wrong-password-dark');
  await b.logIn('yusuf');
}

/** a reads back what b wrote. */
async function readBack(a, b, room, other) {
  await b.choose(room);
  await b.flood(room, texts('old', 1, OLD));
  await a.choose(other);
  await a.page.reload();
  await a.signedIn('maria');
  await a.choose(room);
  await a.reads(`old ${OLD}`);
  assert.equal((await a.heard()).includes('Good morning, all'), false, 'not all is there at once');
  await a.shot(shots, 'rooms-history-light');

  while (!(await a.heard()).includes('Good morning, all')) {
    const [first, count] = [(await a.heard())[0], (await a.heard()).length];
    await a.page.evaluate(() => { document.querySelector('#room-slot .log').scrollTop = 0; });
    const top = await a.placeOf(first);
    await a.page.waitForFunction((n) => document.querySelectorAll('#room-slot .lines .message').length > n, count);
    const moved = Math.abs(await a.placeOf(first) - top);
    assert.ok(moved <= 2, `${first} jumped by ${moved} pixels`);
  }
  await a.page.waitForFunction(() => /begins/.test(document.querySelector('#room-slot .older').textContent));
  assert.deepEqual((await a.heard()).filter((text) => text.startsWith('old ')), texts('old', 1, OLD));

  // Who reads back is not torn away, and is told.
  await a.page.evaluate(() => { document.querySelector('#room-slot .log').scrollTop = 500; });
  const place = await a.placeOf('old 10');
  await b.write('Something new');
  await a.page.waitForSelector('#room-new:not([hidden])');
  assert.equal(await a.page.textContent('#room-new'), '1 new message');
  assert.ok(Math.abs(await a.placeOf('old 10') - place) <= 1);
  await a.shot(shots, 'rooms-new-light');
  await a.page.click('#room-new');
  await a.page.waitForSelector('#room-new', { state: 'hidden' });
  await a.unread(room, 0);
}

/** Someone without a mouse makes an account and writes. */
async function byKeyboard() {
  const user = await enter(url);
  const { page } = user;
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  await page.waitForFunction(() => document.activeElement.id === 'login-email');
  await press('Tab', 'Tab', 'Tab');
  assert.equal(await user.focus(), '#to-signup');
  await press('Enter');
  assert.equal(await user.focus(), '#signup-username');
  await page.keyboard.type('aino');
  await press('Tab');
  await page.keyboard.type('aino@example.com');
  await press('Tab');
  await page.keyboard.type(PASSWORD);
  await press('Enter');
  await user.signedIn('aino');
  await page.focus('#to-board');
  await press('Tab', 'Tab');
  assert.equal(await user.focus(), '.peer room');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'the focus on a room shows');
  await press('ArrowDown', 'ArrowUp', 'Enter');
  await page.waitForSelector('#room:not([hidden])');
  assert.equal(await user.focus(), '#room-text');
  await press('Enter');
  assert.equal(await page.locator('#room-slot .mine').count(), 0, 'nothing is sent when nothing is written');
  await page.keyboard.type('first line');
  await press('Shift+Enter');
  await page.keyboard.type('second line');
  await press('Enter');
  await user.reads('first line\nsecond line');
  assert.equal(await page.inputValue('#room-text'), '');
  await page.keyboard.type('a draft');
  await press('Escape');
  await page.waitForSelector('#room', { state: 'hidden' });
  assert.equal(await user.focus(), '.peer room');
  await press('Enter');
  await page.waitForSelector('#room:not([hidden])');
  assert.equal(await page.inputValue('#room-text'), 'a draft', 'the draft was kept');
  await page.focus('#here-count');
  await press('Enter');
  await page.waitForSelector('#here-list', { state: 'visible' });
  await page.focus('#room-slot .log');
  const before = await page.evaluate(() => document.querySelector('#room-slot .log').scrollTop);
  await press('PageUp');
  await page.waitForFunction((top) => document.querySelector('#room-slot .log').scrollTop < top, before);
}

/** Someone on a phone. */
async function onPhone(b, room) {
  const phone = await enter(url, PHONE);
  const { page } = phone;
  await phone.fits();
  await phone.shot(shots, 'rooms-phone-signin');
  await phone.signUp('phoebe');
  await phone.fits();
  await phone.shot(shots, 'rooms-phone-list');
  await b.choose(room);
  await b.write(`${'A long word, '.repeat(4)}${'w'.repeat(120)}`);
  await phone.link(room).tap();
  await page.waitForSelector('#room:not([hidden])');
  assert.equal(await page.isVisible('.side'), false, 'one pane at a time');
  await phone.write('Hello from the road');
  await phone.fits();
  for (const control of ['#room-send', '#room .back', '#here-count']) {
    const { width, height } = await page.locator(control).boundingBox();
    assert.ok(width >= 40 && height >= 40, `${control} is big enough for a thumb`);
  }
  await phone.shot(shots, 'rooms-phone-room');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.tap('#here-count');
  await phone.fits();
  await phone.shot(shots, 'rooms-phone-room-dark');
  await page.tap('#room .back');
  await page.waitForSelector('.side', { state: 'visible' });
  await page.goBack();
  await phone.reads('Hello from the road');
}

/** Someone whose messages do not go through at first. */
async function sendAgain() {
  const user = await enter(url2);
  const { page } = user;
  let broken = true;
  let swallowed = 0;
  await page.routeWebSocket('**/api/ws*', (routed) => {
    const server = routed.connectToServer();
    routed.onMessage((frame) => {
      const lost = broken && frame.includes('cut me');
      if (lost) swallowed++;
      else server.send(frame);
      if (lost || frame.includes('keep me')) routed.close({ code: 4000 });
    });
  });
  await page.reload();
  await user.signUp('sendagain');
  const [room] = await user.roomIds();
  await user.choose(room);

  await page.fill('#room-text', 'x'.repeat(200_000));
  await page.press('#room-text', 'Enter');
  const failed = page.locator('#room-slot .pending [data-delivery="failed"]');
  await failed.waitFor();
  assert.match(await failed.locator('.delivery').textContent(), /too long/);
  await failed.locator('.discard').click();
  await failed.waitFor({ state: 'detached' });

  await page.fill('#room-text', 'cut me');
  await page.press('#room-text', 'Enter');
  await failed.waitFor();
  assert.match(await failed.locator('.delivery').textContent(), /may not have arrived/);
  await page.waitForFunction(() => document.querySelector('#rooms-status').dataset.state === 'open');
  await user.shot(shots, 'rooms-failed-light');
  assert.equal(swallowed, 1, 'it was not sent again by itself');
  broken = false;
  await failed.locator('.retry:not(.discard)').click();
  await user.reads('cut me');
  await failed.waitFor({ state: 'detached' });
  assert.equal((await user.heard()).filter((text) => text === 'cut me').length, 1);

  // One that went through after all is not left standing as failed.
  await page.fill('#room-text', 'keep me');
  await page.press('#room-text', 'Enter');
  await user.reads('keep me');
  await page.waitForFunction(() => document.querySelectorAll('#room-slot .pending .message').length === 0);
  assert.equal((await user.heard()).filter((text) => text === 'keep me').length, 1);
}

/** Someone is told of a gap; the words are put in the relay's mouth, since it loses nothing by itself. */
async function missing() {
  const user = await enter(url2);
  let socket;
  await user.page.routeWebSocket('**/api/ws*', (routed) => {
    routed.connectToServer();
    socket = routed;
  });
  await user.page.reload();
  await user.signUp('gapster');
  const [, roomId] = await user.roomIds();
  await user.choose(roomId);
  await user.write('Before');
  const tellGap = () => socket.send(JSON.stringify({ type: 'error', payload: { code: 'HISTORY_GAP', message: 'gone', roomId } }));
  tellGap();
  await user.page.waitForSelector('#room-slot .note');
  tellGap();
  await user.write('After');
  assert.equal(await user.page.locator('#room-slot .note').count(), 1, 'once is enough');
  assert.deepEqual(await user.page.locator('#room-slot .lines > li').evaluateAll((lines) => lines.slice(-3)
    .map((line) => line.querySelector('.body')?.textContent ?? line.textContent)), ['Before', 'Messages may be missing here.', 'After']);
  await user.shot(shots, 'rooms-gap-light');
}

/** Someone sees messages of several days, the older ones not at the first try; the relay is changed on its way. */
async function days(roomId) {
  const DAY = 24 * 3_600_000;
  const user = await enter(url2);
  const { page } = user;
  let refuse = true;
  const age = (messages, days) => messages.map((message) => ({ ...message, timestamp: message.timestamp - days * DAY }));
  await page.routeWebSocket('**/api/ws*', (routed) => {
    const server = routed.connectToServer();
    routed.onMessage((frame) => {
      if (!refuse || !frame.includes('requestRoomHistory')) server.send(frame);
      else routed.send(JSON.stringify({ type: 'error', payload: { code: 'UNAVAILABLE', message: 'not now', roomId } }));
    });
    server.onMessage((frame) => {
      const { type, payload } = JSON.parse(frame);
      if (type === 'roomHistory') payload.messages = age(payload.messages, 40);
      for (const room of type === 'hello' ? payload.rooms : []) {
        room.messages = [...room.messages.slice(0, 1), ...age(room.messages.slice(1), 1)];
      }
      routed.send(JSON.stringify({ type, payload }));
    });
  });
  await page.reload();
  await user.signUp('dayana');
  await user.choose(roomId);
  const shown = () => page.locator('#room-slot .day').allTextContents();
  assert.deepEqual(await shown(), ['Yesterday', 'Today']);
  await page.evaluate(() => { document.querySelector('#room-slot .log').scrollTop = 0; });
  await page.waitForFunction(() => /did not come/.test(document.querySelector('#room-slot .older').textContent));
  refuse = false;
  await page.click('#room-slot .older button');
  await page.waitForFunction(() => document.querySelectorAll('#room-slot .day').length === 3);
  const [long] = await shown();
  assert.match(long, /\b20\d\d\b/, 'a day long ago has its date');
  await user.shot(shots, 'rooms-days-light');
}

/** a is away when her node dies, and much is written meanwhile, by her too. */
async function killed(a, b, room) {
  await a.choose(room);
  await b.choose(room);
  await b.write('Between two messages');
  await a.reads('Between two messages');
  await a.page.context().setOffline(true);
  console.log('READY-FOR-KILL');
  assert.equal(await nextLine(), 'KILLED');
  await a.page.waitForSelector('#rooms-status[data-state="waiting"]');
  await a.page.waitForSelector('#rooms-trouble:not([hidden])');
  await a.page.fill('#room-text', 'Written while nobody was there');
  await a.page.press('#room-text', 'Enter');
  await a.page.waitForSelector('#room-slot [data-delivery="sending"]');
  await a.shot(shots, 'rooms-away-light');
  await b.flood(room, texts('missed', 1, 250));
  await b.reads('missed 250');
  await a.page.context().setOffline(false);
  await a.reads('Written while nobody was there');
  await b.reads('Written while nobody was there');
  await b.write('Welcome back');
  await a.reads('Welcome back');
  const since = (heard) => heard.slice(heard.lastIndexOf('Between two messages'));
  assert.deepEqual(since(await a.heard()), [
    'Between two messages', ...texts('missed', 1, 250), 'Written while nobody was there', 'Welcome back',
  ]);
  assert.deepEqual(since(await b.heard()), since(await a.heard()));
  for (const fuss of ['#rooms-trouble', '#room-slot .note', '#room-slot [data-delivery]']) assert.equal(await a.page.isVisible(fuss), false, fuss);
  await a.shot(shots, 'rooms-back-light');
}

/** a signs out in another tab. */
async function signingOut(a) {
  const [page] = await Promise.all([
    a.page.context().waitForEvent('page'),
    a.page.evaluate(() => { window.open(location.href); }),
  ]);
  const copy = new RoomUser(page);
  await copy.signedIn('maria');
  await page.click('#logout');
  for (const user of [copy, a]) {
    await user.page.waitForSelector('#login', { state: 'visible' });
    assert.equal(await user.page.isVisible('#signed-in'), false);
    assert.equal(await user.page.locator('.room-log, .room').count(), 0, 'nothing of it is left');
  }
  assert.match(await a.page.textContent('#signed-out-text'), /signed out/);
  assert.equal(await page.textContent('#signed-out-text'), '', 'who signs out knows it');
  await a.shot(shots, 'rooms-signed-out-light');
  await a.page.reload();
  await a.page.waitForSelector('#login', { state: 'visible' });
  await a.logIn('maria');
}
