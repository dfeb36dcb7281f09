/**
 * People and groups in Chromium, end to end: users on two nodes find each other, write,
 * make a group, read back, and one of them loses her node, and then the next one drains.
 *
 *   node e2e/people.e2e.mjs --url http://127.0.0.1:PORT --url2 http://127.0.0.1:PORT [--shots DIR]
 *
 * The fleet has accounts and nobody in them, no issuer for OpenID Connect, and sets no
 * limit to how much one client writes. When this prints READY-FOR-KILL, the node that
 * --url leads to is to be killed; when it prints READY-FOR-DRAIN, the one that --url leads
 * to by then is to be asked to stop. When it has ended, the caller writes KILLED to this
 * program's standard input; by then, or soon after, --url has to lead to a living node of
 * the same fleet. Exits 0 if all went well.
 */

import assert from 'node:assert/strict';
import { parseArgs } from 'node:util';
import { gap, sendAgain } from './peopletrouble.mjs';
import { PeopleUser } from './peopleuser.mjs';
import { PASSWORD } from './roomuser.mjs';
import { start } from './stage.mjs';

const { values: { url, url2, shots } } = parseArgs({
  options: { url: { type: 'string' }, url2: { type: 'string' }, shots: { type: 'string' } },
});
if (!url || !url2) {
  console.error('usage: people.e2e.mjs --url http://HOST:PORT --url2 http://HOST:PORT [--shots DIR]');
  process.exit(2);
}
const { users, enter, check, nextLine, finish } = await start(PeopleUser, shots);

const PHONE = { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const MARKUP = '<img src=x onerror="window.hacked = 1"><b>bold</b>&amp;<script>window.hacked = 2</script>';

/** A name that is markup, and turns round what follows it. */
const HOSTILE = '<b>eve</b>\u202e"/../x?y#z&';

/** How many messages there are to read back: several pages. */
const OLD = 90;

/** Texts with numbers, from one to another, both included. */
const texts = (what, from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${what} ${from + i}`);

await finish(run);

async function run() {
  const alice = await enter(url);
  const bob = await enter(url2, { colorScheme: 'dark' });

  await check('they make accounts; where there is no issuer, nothing is offered', async () => {
    assert.equal(await alice.page.isVisible('#openid'), false);
    assert.equal(await alice.page.textContent('#people-status-text'), 'Not signed in');
    await alice.signUp('alice');
    await bob.signUp('bobby');
    for (const { page } of [alice, bob]) await page.waitForFunction(() => document.querySelector('#people-status').dataset.state === 'open');
    await alice.shot(shots, 'people-empty-light');
  });

  await check('one finds the other as one types, and makes a friend', async () => {
    await alice.finds('BOB', 'bobby');
    await alice.finds('nobody at all');
    assert.equal(await alice.page.textContent('#found-hint'), 'Nobody is called that.');
    await alice.finds('obb', 'bobby');
    await alice.shot(shots, 'people-found-light');
    await alice.page.click('#found button');
    await alice.line('person', 'bobby').waitFor();
    await alice.page.waitForFunction(() => document.querySelector('#found button').getAttribute('aria-pressed') === 'true');
    await alice.finds('ali', 'alice');
    assert.equal(await alice.page.textContent('#found .hint'), 'You');
    await alice.page.fill('#find-text', '');
    await alice.page.waitForSelector('#found-place', { state: 'hidden' });
  });

  await check('what one writes the other reads, both ways', async () => {
    await alice.choosePartner('person', 'bobby');
    await alice.write('Hello, Bob');
    await bob.unreadOf('person', 'alice', 1);
    assert.equal(await bob.page.title(), '(1) Parley');
    assert.match(await bob.page.textContent('#notices'), /alice wrote to you/);
    assert.equal(await bob.line('person', 'alice').locator('.last').textContent(), 'Not among your friends');
    await bob.shot(shots, 'people-unread-dark');
    await bob.choosePartner('person', 'alice');
    await bob.reads('Hello, Bob');
    await bob.unreadOf('person', 'alice', 0);
    assert.equal(await bob.page.title(), 'Parley');
    await bob.write('Hello, Alice.\nHow are you?');
    await alice.reads('Hello, Alice.\nHow are you?');
    await alice.write('Well');
    await bob.reads('Well');
    assert.deepEqual(await alice.heard(), ['Hello, Bob', 'Hello, Alice.\nHow are you?', 'Well']);
    assert.deepEqual(await bob.heard(), await alice.heard());
    await alice.shot(shots, 'people-talk-light');
  });

  await check('the session is that of the rooms, and what is unread survives a reload', () => oneSession(alice, bob));
  await check('a group of three', () => group(alice, bob));
  await check('names and texts from others are never markup', () => hostile(alice, bob));
  await check('history comes by scrolling up, over several pages, and nothing jumps', () => readBack(alice, bob));
  await check('all can be done by keyboard', () => byKeyboard());
  await check('it fits on a phone', () => onPhone(alice));
  await check('a gap has everything looked at anew', async () => gap(alice, await enter(url2), shots));
  await check('what did not go through can be sent again', async () => sendAgain(alice, await enter(url2), shots));
  await check('a search has more pages', () => search());

  await check('where there is an issuer, one may sign in there', () => elsewhere());

  await check('the page asked nobody else and broke no rule of its own', async () => {
    for (const user of users) {
      // The answers that say no are among what a browser calls errors.
      assert.deepEqual(user.troubles.filter((trouble) => !/status of (400|401|403|404|409)/.test(trouble) && !(user.tampered && /Failed to load/.test(trouble))), []);
      for (const origin of user.origins) assert.ok([new URL(url).origin, new URL(url2).origin, 'null'].includes(origin), origin);
    }
  });

  await check('a node is killed, and the next one drains: nothing is missed, nothing comes twice', () => killed(alice, bob));
  await check('signing out in one tab ends the others, and leaves nothing behind', () => signingOut(alice));
}

/** alice is at home in the rooms too, and comes back to what she has not read. */
async function oneSession(alice, bob) {
  const { page } = alice;
  await page.click('#to-rooms');
  await page.waitForFunction(() => document.querySelector('#rooms-status').dataset.state === 'open' && document.querySelector('#username').textContent === 'alice');
  await bob.write('Are you there?');
  await page.waitForFunction(() => document.querySelector('#people-unread').textContent === '1');
  await page.reload();
  await page.click('#to-people');
  await alice.signedIn('alice');
  await alice.unreadOf('person', 'bobby', 1);
  assert.match(await page.textContent('#notices'), /bobby wrote to you/);
  await alice.choosePartner('person', 'bobby');
  await alice.reads('Are you there?');
  await alice.unreadOf('person', 'bobby', 0);
  await page.reload();
  await alice.shows('bobby');
  await alice.reads('Are you there?');
  await alice.unreadOf('person', 'bobby', 0);
  assert.equal((await alice.heard()).filter((text) => text === 'Are you there?').length, 1);
}

/** alice makes a group of three, which bob adds somebody to. */
async function group(alice, bob) {
  const { page } = alice;
  const carol = await enter(url2);
  await carol.signUp('carol');
  await page.click('#to-new-group');
  await page.fill('#group-name', 'Tuesday choir');
  await page.check('#group-members input');
  await page.fill('#group-other', 'nobody');
  await page.click('#group-add');
  await page.waitForFunction(() => /nobody called/.test(document.querySelector('#group-error').textContent));
  await page.fill('#group-other', 'carol');
  await page.press('#group-other', 'Enter');
  await page.waitForFunction(() => document.querySelectorAll('#group-members :checked').length === 2);
  await page.fill('#group-message', 'Shall we sing?');
  await alice.shot(shots, 'people-newgroup-light');
  await page.click('#group-make');
  await alice.shows('Tuesday choir');
  await alice.reads('Shall we sing?');
  for (const user of [bob, carol]) {
    await user.unreadOf('group', 'Tuesday choir', 1);
    assert.match(await user.page.textContent('#notices'), /Tuesday choir has you as a member/);
    await user.choosePartner('group', 'Tuesday choir');
    await user.reads('Shall we sing?');
  }
  await bob.write('Yes');
  await carol.reads('Yes');
  await carol.write('Gladly');
  for (const user of [alice, bob, carol]) {
    await user.reads('Gladly');
    assert.deepEqual(await user.heard(), ['Shall we sing?', 'Yes', 'Gladly']);
  }
  assert.deepEqual(await alice.page.locator('#talk-slot .theirs .author').allTextContents(), ['bobby', 'carol']);
  await page.click('#members-count');
  await page.waitForFunction(() => document.querySelectorAll('#members-list li').length === 3);
  assert.deepEqual(await page.locator('#members-list li').allTextContents(), ['alice (you)', 'bobby', 'carol']);
  await alice.shot(shots, 'people-members-light');

  const dave = await enter(url);
  await dave.signUp('dave');
  await page.fill('#add-member-name', 'nobody');
  await page.press('#add-member-name', 'Enter');
  await page.waitForFunction(() => /nobody of this name/.test(document.querySelector('#members-error').textContent));
  await page.fill('#add-member-name', 'dave');
  await page.press('#add-member-name', 'Enter');
  await page.waitForFunction(() => document.querySelectorAll('#members-list li').length === 4);
  await page.keyboard.press('Escape');
  await dave.choosePartner('group', 'Tuesday choir');
  await dave.reads('Shall we sing?');
  await dave.page.click('#members-count');
  await dave.page.click('#leave-group');
  assert.equal(await dave.page.textContent('#leave-group'), 'Really leave?');
  await dave.page.click('#leave-group');
  await dave.line('group', 'Tuesday choir').waitFor({ state: 'detached' });
  await dave.page.context().close();
  users.splice(users.indexOf(dave), 1);

  // Whoever opens a group that they are not in is told.
  await carol.page.evaluate(() => { location.hash = 'group=Wednesday%20choir'; });
  await carol.page.waitForFunction(() => /gone/.test(document.querySelector('#talk-problem').textContent));
  await carol.page.evaluate(() => { location.hash = 'person=nobody'; });
  await carol.page.waitForFunction(() => /nobody called nobody/.test(document.querySelector('#talk-problem').textContent));
}

/** Somebody has a name that is meant to do harm. */
async function hostile(alice, bob) {
  const eve = await enter(url2);
  const { page } = eve;
  await page.click('#to-signup');
  await page.fill('#signup-username', HOSTILE);
  await page.fill('#signup-email', 'eve@example.com');
  await page.fill('#signup-password', PASSWORD);
  await page.press('#signup-password', 'Enter');
  await eve.signedIn(HOSTILE);
  await eve.finds('alice', 'alice');
  await eve.openFound('alice');
  await eve.write(MARKUP);
  await alice.unreadOf('person', HOSTILE, 1);
  await alice.shot(shots, 'people-hostile-light');
  await alice.choosePartner('person', HOSTILE);
  await alice.reads(MARKUP);
  await alice.page.click('#talk-friend');
  await alice.page.waitForFunction(() => document.querySelector('#talk-friend').textContent === 'Remove friend');
  await alice.page.click('#talk-friend');
  await alice.page.waitForFunction(() => document.querySelector('#talk-friend').textContent === 'Add friend');
  await alice.write('I see');
  await eve.reads('I see');
  await eve.page.click('#to-new-group');
  await eve.page.fill('#group-name', '<i>a & b?</i>#1'.replace('/', '|'));
  await eve.page.fill('#group-other', 'alice');
  await eve.page.click('#group-make');
  await eve.shows('<i>a & b?<|i>#1');
  await alice.choosePartner('group', '<i>a & b?<|i>#1');
  for (const user of [alice, bob, eve]) {
    assert.equal(await user.page.locator('.log img, .log b, .log script, #people-in b, #people-in i, #talk-title b, #notices b').count(), 0);
    assert.equal(await user.page.evaluate(() => window.hacked), undefined);
  }
}

/** bob reads back what alice wrote while he looked elsewhere. */
async function readBack(alice, bob) {
  const id = await alice.idOf('bobby');
  await bob.choosePartner('group', 'Tuesday choir');
  await alice.post(`/Users/${id}`, texts('old', 1, OLD));
  await bob.unreadOf('person', 'alice', OLD);
  await bob.page.reload();
  await bob.signedIn('bobby');
  await bob.choosePartner('person', 'alice');
  await bob.reads(`old ${OLD}`);
  assert.equal((await bob.heard()).includes('Hello, Bob'), false, 'not all is there at once');
  while (!(await bob.heard()).includes('Hello, Bob')) {
    const [first, count] = [(await bob.heard())[0], (await bob.heard()).length];
    await bob.page.evaluate(() => { document.querySelector('#talk-slot .log').scrollTop = 0; });
    const top = await bob.placeOf(first);
    await bob.page.waitForFunction((n) => document.querySelectorAll('#talk-slot .lines .message').length > n, count);
    const moved = Math.abs(await bob.placeOf(first) - top);
    assert.ok(moved <= 2, `${first} jumped by ${moved} pixels`);
  }
  await bob.page.waitForFunction(() => /Nothing was said/.test(document.querySelector('#talk-slot .older').textContent));
  assert.deepEqual((await bob.heard()).filter((text) => text.startsWith('old ')), texts('old', 1, OLD));

  // Who reads back is not torn away, and is told.
  await bob.page.evaluate(() => { document.querySelector('#talk-slot .log').scrollTop = 500; });
  const place = await bob.placeOf('old 10');
  await alice.post(`/Users/${id}`, ['Something new']);
  await bob.page.waitForSelector('#talk-new:not([hidden])');
  assert.equal(await bob.page.textContent('#talk-new'), '1 new message');
  assert.ok(Math.abs(await bob.placeOf('old 10') - place) <= 1);
  await bob.unreadOf('person', 'alice', 1);
  await bob.shot(shots, 'people-new-dark');
  await bob.page.click('#talk-new');
  await bob.page.waitForSelector('#talk-new', { state: 'hidden' });
  await bob.unreadOf('person', 'alice', 0);
}

/** Someone without a mouse finds somebody, and writes. */
async function byKeyboard() {
  const user = await enter(url);
  const { page } = user;
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  await user.signUp('aino');
  await page.focus('#find-text');
  await page.keyboard.type('bobb');
  await page.waitForSelector('#found li');
  await press('Tab');
  assert.match(await page.evaluate(() => document.activeElement.getAttribute('href')), /^#person=bobby$/);
  await press('Tab', 'Enter');
  await page.waitForFunction(() => document.querySelector('#found button').getAttribute('aria-pressed') === 'true');
  assert.equal(await page.evaluate(() => document.activeElement.tagName), 'BUTTON', 'the focus stays');
  await page.focus('#find-text');
  await press('Tab', 'Enter');
  await user.shows('bobby');
  assert.equal(await user.focus(), '#talk-text');
  await press('Enter');
  assert.equal(await page.locator('#talk-slot .mine').count(), 0, 'nothing is sent when nothing is written');
  await page.keyboard.type('first line');
  await press('Shift+Enter');
  await page.keyboard.type('second line');
  await press('Enter');
  await user.reads('first line\nsecond line');
  await page.keyboard.type('a draft');
  await press('Escape');
  await page.waitForSelector('#talk', { state: 'hidden' });
  assert.equal(await user.focus(), '.peer partner');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid', 'the focus on a line shows');
  await press('Enter');
  await user.shows('bobby');
  assert.equal(await page.inputValue('#talk-text'), 'a draft', 'the draft was kept');
}

/** Someone on a phone. */
async function onPhone(alice) {
  const phone = await enter(url, PHONE);
  const { page } = phone;
  await phone.fits();
  await phone.shot(shots, 'people-phone-signin');
  await phone.signUp('phoebe');
  await phone.fits();
  await phone.finds('alice', 'alice');
  await phone.fits();
  await phone.shot(shots, 'people-phone-found');
  await page.locator('#found a').tap();
  await phone.shows('alice');
  assert.equal(await page.isVisible('.side'), false, 'one pane at a time');
  await phone.write(`${'A long word, '.repeat(4)}${'w'.repeat(120)}`);
  await phone.fits();
  for (const control of ['#talk-send', '#talk .back', '#talk-friend']) {
    const { width, height } = await page.locator(control).boundingBox();
    assert.ok(width >= 40 && height >= 40, `${control} is big enough for a thumb`);
  }
  await phone.shot(shots, 'people-phone-talk');
  await page.tap('#talk .back');
  await page.waitForSelector('.side', { state: 'visible' });
  await alice.choosePartner('person', 'phoebe');
  await alice.write('Where are you?');
  await phone.unreadOf('person', 'alice', 1);
  await phone.fits();
  await phone.shot(shots, 'people-phone-list');
  await page.tap('#to-new-group');
  await phone.fits();
  await page.fill('#group-name', 'A name as long as names can be, which does not fit on any phone that anybody has, wide as it may be');
  await page.fill('#group-other', 'alice');
  await page.tap('#group-add');
  await page.waitForSelector('#group-members :checked');
  await phone.fits();
  await phone.shot(shots, 'people-phone-newgroup');
  await page.tap('#group-make');
  await page.waitForSelector('#talk:not([hidden])');
  await page.tap('#members-count');
  await page.waitForSelector('#members-list li');
  await phone.fits();
  await page.emulateMedia({ colorScheme: 'dark' });
  await phone.shot(shots, 'people-phone-members-dark');
}

/** More are found than fit on a page. */
async function search() {
  const user = await enter(url2);
  const { page } = user;
  await user.signUp('seeker');
  await page.evaluate(async (password) => {
    for (let i = 1; i <= 45; i++) {
      const username = `walrus ${String(i).padStart(2, '0')}`;
      await fetch('/Users', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username, email: `walrus${i}@example.com`, password }) });
    }
  }, PASSWORD);
  await page.fill('#find-text', 'walrus');
  const count = (n) => page.waitForFunction((wanted) => document.querySelectorAll('#found li').length === wanted, n);
  await count(20);
  await page.click('#found-more');
  await count(40);
  await page.click('#found-more');
  await count(45);
  assert.equal(await page.isVisible('#found-more'), false);
  const names = await page.locator('#found .who').allTextContents();
  assert.deepEqual([...new Set(names)].sort(), texts('walrus', 1, 45).map((name) => name.replace(/ (\d)$/, ' 0$1')));
}

/** The relay has an issuer; the words are put in its mouth, as the fleet has none. */
async function elsewhere() {
  const user = await enter(url2, PHONE);
  const { page } = user;
  await page.route('**/auth/methods', (route) => route.fulfill({
    contentType: 'application/json', body: JSON.stringify({ methods: ['password', 'openid'], issuer: 'https://accounts.example.com/tenant' }),
  }));
  const asked = [];
  await page.route('**/auth/login*', (route) => {
    asked.push(new URL(route.request().url()).searchParams.get('redirect'));
    return route.fulfill({ contentType: 'text/html', body: 'The issuer' });
  });
  await page.reload();
  await page.waitForSelector('#openid', { state: 'visible' });
  assert.equal((await page.textContent('#openid-link')).replaceAll('\u00a0', ' '), 'Sign in with accounts.example.com');
  await user.fits();
  await user.shot(shots, 'people-phone-openid');
  await page.tap('#openid-link');
  await page.waitForFunction(() => document.body.textContent === 'The issuer');
  await page.goBack();
  await page.waitForSelector('#openid', { state: 'visible' });
  await page.tap('#to-rooms');
  await page.tap('#openid-link');
  await page.waitForFunction(() => document.body.textContent === 'The issuer');
  assert.deepEqual(asked, ['/#people', '/#rooms']);
}

/** alice has her node killed, and the next one drained, while bob writes, to her and to the group. */
async function killed(alice, bob) {
  const id = await bob.idOf('alice');
  await alice.choosePartner('person', 'bobby');
  await bob.choosePartner('group', 'Tuesday choir');
  const before = (await alice.heard()).length;
  const write = async (what) => {
    await bob.post(`/Users/${id}`, texts(what, 1, 10));
    await bob.post('/Groups/Tuesday%20choir/conversation', texts(what, 1, 3));
  };
  await write('early');
  console.log('READY-FOR-KILL');
  const [line] = await Promise.all([nextLine(), write('during the kill')]);
  assert.equal(line, 'KILLED');
  await write('after the kill');
  await alice.reads('after the kill 10');
  await alice.page.waitForFunction(() => document.querySelector('#people-status').dataset.state === 'open');
  console.log('READY-FOR-DRAIN');
  const [next] = await Promise.all([nextLine(), write('during the drain')]);
  assert.equal(next, 'KILLED');
  await write('late');
  await alice.reads('late 10');
  const kinds = ['early', 'during the kill', 'after the kill', 'during the drain', 'late'];
  assert.deepEqual((await alice.heard()).slice(-50), kinds.flatMap((kind) => texts(kind, 1, 10)));
  assert.ok(before > 0);
  await alice.unreadOf('group', 'Tuesday choir', 15);
  await alice.unreadOf('person', 'bobby', 0);
  await alice.choosePartner('group', 'Tuesday choir');
  await alice.reads('late 3');
  assert.deepEqual((await alice.heard()).slice(-15), kinds.flatMap((kind) => texts(kind, 1, 3)));
  await alice.write('Still here');
  await bob.reads('Still here');
  for (const fuss of ['#people-trouble', '#talk-problem', '#talk-slot .note', '#talk-slot [data-delivery]']) assert.equal(await alice.page.isVisible(fuss), false, fuss);
  assert.doesNotMatch(await alice.page.textContent('#notices'), /missing/);
  await alice.shot(shots, 'people-back-light');
}

/** alice signs out in another tab. */
async function signingOut(alice) {
  const [page] = await Promise.all([
    alice.page.context().waitForEvent('page'),
    alice.page.evaluate(() => { window.open(location.href); }),
  ]);
  const copy = new PeopleUser(page);
  await copy.signedIn('alice');
  await page.click('#people-logout');
  for (const user of [copy, alice]) {
    await user.page.waitForSelector('#login', { state: 'visible' });
    assert.equal(await user.page.isVisible('#people-in'), false);
    assert.equal(await user.page.locator('.room-log, .partner, #notices li').count(), 0, 'nothing of it is left');
  }
  assert.match(await alice.page.textContent('#signed-out-text'), /signed out/);
  assert.equal(await page.textContent('#signed-out-text'), '', 'who signs out knows it');
  assert.equal(await page.evaluate(() => localStorage.getItem('parley.people')), null);
  await alice.shot(shots, 'people-signed-out-light');
  await alice.logIn('alice');
  await alice.line('person', 'bobby').waitFor();
}
