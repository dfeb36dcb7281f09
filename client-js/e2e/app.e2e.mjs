/**
 * Direct messages in Chromium, end to end: users on two nodes talk to each
 * other; one of them loses its node, is loaded anew, opened twice, and loses its
 * session.
 *
 *   node e2e/app.e2e.mjs --url http://127.0.0.1:PORT --url2 http://127.0.0.1:PORT [--shots DIR]
 *
 * When it prints READY-FOR-KILL, the node named on the line before it,
 * `PAGE-A-NODE name`, is to be killed. Once it is dead, the caller writes
 * KILLED to this program's standard input; by then, or soon after, --url has
 * to lead to a living node of the same fleet, which keeps messages for those
 * who come back. Exits 0 if all went well.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { User } from './browser.mjs';
import { start } from './stage.mjs';

const { values: { url, url2, shots } } = parseArgs({
  options: { url: { type: 'string' }, url2: { type: 'string' }, shots: { type: 'string' } },
});
if (!url || !url2) {
  console.error('usage: app.e2e.mjs --url http://HOST:PORT --url2 http://HOST:PORT [--shots DIR]');
  process.exit(2);
}
const { users, enter, check, nextLine, finish } = await start(User, shots);

const PHONE = { viewport: { width: 390, height: 760 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const MARKUP = '<img src=x onerror="window.hacked = 1"><b>bold</b>&amp;<script>window.hacked = 2</script>';

await finish(run);

async function run() {
  const a = await enter(url);
  const b = await enter(url2, { colorScheme: 'dark' });

  await check('each has an address and a node of its own', async () => {
    assert.match(await a.address(), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.notEqual(await a.address(), await b.address());
    assert.notEqual(await a.node(), '');
    assert.notEqual(await a.node(), await b.node());
    assert.equal(await a.page.textContent('#status-text'), 'Connected');
    await a.shot(shots, 'welcome-light');
    await b.shot(shots, 'welcome-dark');
  });

  await check('a message goes through, and its delivery shows', async () => {
    await a.startWith(await b.address());
    await a.write('Good morning');
    assert.deepEqual(await a.page.evaluate(() => window.seen.deliveries), ['sending', 'sent']);
    await b.unread(await a.address(), 1);
    assert.equal(await b.page.title(), '(1) Parley');
    assert.match(await b.page.textContent('#announcer'), /^Message from .*Good morning$/);
    await b.shot(shots, 'unread-dark');
    await b.choose(await a.address());
    await b.reads('Good morning');
    assert.equal(await b.page.title(), 'Parley');
    assert.equal(await b.page.isVisible('.unread'), false);
    await b.write('And to you.\nHow are things over there?');
    await a.reads('And to you.\nHow are things over there?');
  });

  await check('text from others is never markup', async () => {
    await b.write(MARKUP);
    await a.reads(MARKUP);
    for (const { page } of [a, b]) {
      assert.equal(await page.locator('.log img, .log b, .log script, .peer img, .peer b').count(), 0);
      assert.equal(await page.evaluate(() => window.hacked), undefined);
    }
  });

  await check('a message that is too long fails and says so', async () => {
    const failed = await a.write('x'.repeat(100_000), 'failed');
    assert.match(await failed.locator('.delivery').textContent(), /too long/);
    assert.equal(await failed.locator('.retry').isVisible(), true);
    assert.equal(await a.page.textContent('#status-text'), 'Connected');
  });

  await check('the share link opens a conversation, on a phone too', () => shareLink(a));
  await check('all can be done by keyboard', () => byKeyboard(b));
  await check('what the relay refused is sent again', () => sendAgain());

  await check('the page asked nobody else and broke no rule of its own', async () => {
    for (const user of users) {
      assert.deepEqual(user.troubles, []);
      for (const origin of user.origins) assert.ok([new URL(url).origin, new URL(url2).origin].includes(origin), origin);
    }
  });

  await a.shot(shots, 'chat-light');
  await b.shot(shots, 'chat-dark');
  const address = await a.address();
  await a.choose(await b.address());
  const heard = await a.heard();
  await a.page.context().setOffline(true);
  console.log(`PAGE-A-NODE ${await a.node()}`);
  console.log('READY-FOR-KILL');
  assert.equal(await nextLine(), 'KILLED');

  await check('the page comes back when its node has died: the same address, and what was missed, once', async () => {
    await a.page.waitForSelector('#status[data-state="waiting"]');
    await a.shot(shots, 'away-light');
    await b.choose(address);
    await b.write('Are you there?');
    await b.write('It was a short night here.');
    await a.page.context().setOffline(false);
    assert.equal(await a.connected(), address);
    await a.reads('It was a short night here.');
    const seen = await a.page.evaluate(() => window.seen.troubles);
    assert.ok(seen.some((text) => /No connection|offline/.test(text)), 'it said that the connection was gone');
    for (const fuss of ['#trouble', '#notice', '.note', '.gap']) assert.equal(await a.page.isVisible(fuss), false, fuss);
    await a.write('Here again');
    await b.reads('Here again');
    await b.write('Welcome back');
    await a.reads('Welcome back');
    assert.deepEqual(await a.heard(), [...heard, 'Are you there?', 'It was a short night here.', 'Welcome back']);
    await a.shot(shots, 'resumed-light');
  });

  await check('a page that is loaded anew keeps its address', async () => {
    await a.page.reload();
    assert.equal(await a.connected(), address);
    assert.equal(await a.page.isVisible('#notice'), false);
    await b.write('After the reload');
    await a.reads('After the reload');
    assert.deepEqual(await a.heard(), ['After the reload'], 'and does not hear again what it has heard');
  });

  await check('a tab that is opened twice has its address in one of them', () => openedTwice(a, b, address));
  await check('where messages may be missing, it says so', () => missing(b));
  await check('a session that cannot be resumed ends with a notice', () => lostSession(a, b, address));
}

/** A copy of a's tab takes its address, and a takes it back. */
async function openedTwice(a, b, address) {
  const [page] = await Promise.all([
    a.page.context().waitForEvent('page'),
    a.page.evaluate(() => { window.open(location.href); }),
  ]);
  const copy = new User(page);
  assert.equal(await copy.connected(), address);
  await a.movedAway();
  assert.match(await a.page.textContent('#trouble-text'), /another tab/);
  assert.equal(await a.page.textContent('#status-text'), 'Open elsewhere');
  await a.shot(shots, 'taken-over-light');
  await b.write('Which of you is it?');
  await copy.reads('Which of you is it?');

  await a.page.click('#try-now');
  assert.equal(await a.connected(), address);
  await a.reads('Which of you is it?');
  assert.equal(await a.page.isVisible('#trouble'), false);
  await copy.movedAway();
  await copy.page.close();
  await b.write('So it is you.');
  await a.reads('So it is you.');
}

/** Someone is told of a gap; the words are put in the relay's mouth, since it loses nothing by itself. */
async function missing(b) {
  const user = await enter(url);
  let socket;
  await user.page.routeWebSocket('**/v1/texto*', (routed) => {
    routed.connectToServer();
    socket = routed;
  });
  await user.page.reload();
  const address = await user.connected();
  const tellGap = () => socket.send(JSON.stringify({
    client_id: address, id: crypto.randomUUID(), kind: 'connection', data: { client_id: address, recovered: false },
  }));
  await user.startWith(await b.address());
  await user.write('Before');
  tellGap();
  await user.page.waitForSelector('.log .note');
  assert.equal(await user.page.textContent('.log .note'), 'Messages may be missing here.');
  assert.match(await user.page.textContent('#conversations .gap'), /^Messages may be missing here/);
  tellGap();
  await b.choose(address);
  await b.write('Did you get it?');
  await user.reads('Did you get it?');
  assert.equal(await user.page.locator('.log .note').count(), 1, 'once is enough');
  await user.shot(shots, 'gap-light');
  assert.deepEqual(user.troubles, []);
}

/** The token is one that no relay takes; a has talked to b under the old address. */
async function lostSession(a, b, address) {
  await a.page.evaluate(() => sessionStorage.setItem('parley.session', JSON.stringify({ token: 'forged', last: null })));
  await a.page.reload();
  const fresh = await a.connected();
  assert.notEqual(fresh, address);
  assert.match(await a.page.textContent('#notice-text'), /new address/);
  await a.shot(shots, 'lost-light');
  await a.page.click('#notice-close');
  await a.startWith(await b.address());
  await a.write('Under a new address');
  await b.unread(fresh, 1);
  await a.page.reload();
  assert.equal(await a.connected(), fresh, 'the new address is kept from here on');
  assert.equal(await a.page.isVisible('#notice'), false);
}

/** Someone on a phone opens a's link and writes. */
async function shareLink(a) {
  await a.page.click('#copy-link');
  await a.page.waitForSelector('#copy-link.copied');
  const link = await a.page.evaluate(() => navigator.clipboard.readText());
  assert.equal(link, `${new URL(url).origin}/#to=${await a.address()}`);

  const phone = await enter(link, PHONE);
  const { page } = phone;
  assert.equal(await page.textContent('#chat-title'), await a.address());
  assert.equal(await page.isVisible('.side'), false, 'one pane at a time');
  await phone.fits();
  await page.tap('#text');
  await page.keyboard.type('Hello from the road');
  for (const control of ['#send', '#back', '#copy-peer']) {
    const { width, height } = await page.locator(control).boundingBox();
    assert.ok(width >= 40 && height >= 40, `${control} is big enough for a thumb`);
  }
  await page.tap('#send');
  await page.waitForSelector('.message.mine[data-delivery="sent"]');
  await phone.write(`${'A long word, '.repeat(4)}${'w'.repeat(120)}`);
  await phone.fits();
  await phone.shot(shots, 'phone-chat');
  await a.unread(await phone.address(), 2);
  await a.choose(await phone.address());
  await a.write('Where are you now?');
  await phone.reads('Where are you now?');

  await page.tap('#back');
  await page.waitForSelector('.side', { state: 'visible' });
  assert.equal(await page.isVisible('#chat'), false);
  await phone.fits();
  await a.write('Still there?');
  await phone.unread(await a.address(), 1);
  await phone.shot(shots, 'phone-list');
  await page.emulateMedia({ colorScheme: 'dark' });
  await phone.shot(shots, 'phone-list-dark');
  await page.tap(`.peer[href="#to=${await a.address()}"]`);
  await phone.reads('Still there?');
  await page.goBack();
  await page.waitForSelector('.side', { state: 'visible' });
}

/** Someone without a mouse writes to b. */
async function byKeyboard(b) {
  const user = await enter(url);
  const { page } = user;
  for (const expected of ['#to-direct', '#to-rooms', '#to-people', '#to-board', '#copy-link', '#copy-address', '#peer']) {
    await page.keyboard.press('Tab');
    assert.equal(await user.focus(), expected);
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, 'solid', `the focus on ${expected} shows`);
  }
  await page.keyboard.type('someone');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('#start-error').textContent !== '');
  await page.keyboard.press('Control+A');
  await page.keyboard.type(`write to ${(await b.address()).toUpperCase()} please`);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#chat:not([hidden])');
  assert.equal(await page.textContent('#start-error'), '');
  assert.equal(await user.focus(), '#text');
  await page.keyboard.press('Enter');
  assert.equal(await page.locator('.message').count(), 0, 'nothing is sent when nothing is written');
  await page.keyboard.type('first line');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('second line');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.message.mine[data-delivery="sent"]');
  assert.equal(await page.textContent('.message.mine .body'), 'first line\nsecond line');
  assert.equal(await page.inputValue('#text'), '');
  assert.equal(await user.focus(), '#text');
  await b.unread(await user.address(), 1);

  await page.keyboard.type('a draft');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#chat', { state: 'hidden' });
  assert.equal(await user.focus(), '.peer');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#chat:not([hidden])');
  assert.equal(await page.inputValue('#text'), 'a draft', 'the draft was kept');
  assert.equal(await user.focus(), '#text');
}

/** Someone writes faster than the relay takes it. */
async function sendAgain() {
  const user = await enter(url2);
  const { page } = user;
  await user.startWith(await user.address().then((own) => own.replace(/.$/, (last) => (last === '0' ? '1' : '0'))));
  await page.evaluate(() => {
    for (let i = 1; i <= 600; i++) {
      document.querySelector('#text').value = `message ${i}`;
      document.querySelector('#composer').requestSubmit();
    }
  });
  await page.waitForFunction(() => !document.querySelector('[data-delivery="sending"]'));
  const failed = page.locator('.message[data-delivery="failed"]');
  assert.ok(await failed.count() > 0, 'some were refused');
  // Held by its element: which one is the last that failed changes as it is sent again.
  const message = await failed.last().elementHandle();
  const part = (selector) => message.waitForSelector(selector, { state: 'attached' });
  assert.match(await (await part('.delivery')).textContent(), /too many messages at once/);
  const text = await (await part('.body')).textContent();
  await user.shot(shots, 'failed-light');
  // The relay takes fifty a second: whoever is too fast for that tries again.
  const states = [];
  while (states.at(-1) !== 'sent') {
    assert.ok(states.length < 1_000, `it never went through: ${states.slice(-3)}`);
    await (await part('.retry')).click();
    await page.waitForFunction(() => !document.querySelector('[data-delivery="sending"]'));
    states.push(await message.getAttribute('data-delivery'));
  }
  assert.equal(await (await part('.retry')).isVisible(), false);
  assert.equal(await (await part('.body')).textContent(), text);
}
