/** PullClient: one poll after another, and what comes by it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PullClient } from '../pull.js';
import { settled } from './fakes.js';
import { answer, created, gap, groupNote, note, setUp } from './pullfakes.js';

test('the first poll asks whether there is something, the next ones are held', async () => {
  const t = setUp();
  assert.equal(t.client.state, 'closed');
  t.client.start();
  t.client.start();
  await settled();
  assert.equal(t.client.state, 'connecting');
  assert.equal(t.asked.length, 1);
  assert.equal(t.last.url.href, 'https://relay.test/me?timeout=0&max=100');
  assert.deepEqual([t.last.method, t.last.credentials, t.last.headers], ['GET', 'same-origin', {}]);
  await t.tell();
  assert.equal(t.client.state, 'open');
  assert.deepEqual(t.last.poll, [55, null]);
  await t.pass(55_000);
  await t.tell();
  assert.equal(t.asked.length, 3);
  assert.deepEqual(t.last.poll, [55, null]);
  assert.deepEqual(t.events('state').map(({ state }) => state), ['connecting', 'open']);
});

test('what comes is told in order, and the next poll says how far it has come', async () => {
  const t = setUp();
  await t.open();
  await t.tell(note('1000-0'), groupNote('1000-1'), created('2000-0'));
  assert.deepEqual(t.log.filter(([type]) => type !== 'state'), [
    ['private', { from: 'yusuf', id: '1000-0', time: 1000 }], ['place', { place: '1000-0' }],
    ['group', { group: 'choir', id: '1000-1', time: 1000 }], ['place', { place: '1000-1' }],
    ['groupcreated', { group: 'choir', id: '2000-0', time: 2000 }], ['place', { place: '2000-0' }],
  ]);
  assert.deepEqual(t.last.poll, [55, '2000-0']);
  assert.equal(t.client.place, '2000-0');
});

test('a client goes on from a place that was kept', async () => {
  const t = setUp({ place: '7-3' });
  t.client.start();
  await settled();
  assert.deepEqual(t.last.poll, [0, '7-3']);
  assert.throws(() => new PullClient({ url: 'https://relay.test', place: 'yesterday' }), TypeError);
});

test('what comes again is told once', async () => {
  const t = setUp();
  await t.open();
  await t.tell(note('9-0'), note('10-0'));
  await t.tell(note('9-0'), note('10-0'), note('10-1'));
  assert.deepEqual(t.heard(), ['9-0', '10-0', '10-1']);
});

test('a relay that tells the same again and again is not asked without a pause', async () => {
  const t = setUp();
  await t.open();
  await t.tell(note('9-0'));
  await t.tell(note('9-0'));
  assert.equal(t.asked.length, 3);
  await t.pass(499);
  assert.equal(t.asked.length, 3);
  await t.pass(1);
  assert.equal(t.asked.length, 4);
});

test('a later relay may tell what this client does not know', async () => {
  const t = setUp();
  await t.open();
  await t.tell({ notification: 'full_moon', id: '5-0' }, note('6-0'));
  assert.deepEqual(t.heard(), ['6-0']);
  assert.deepEqual(t.events('place').map(({ place }) => place), ['5-0', '6-0']);
});

// Gaps.

test('a gap is told where it is, and moves the place, also back', async () => {
  const t = setUp();
  await t.open();
  await t.tell(note('50-0'));
  await t.tell(gap('50-0'), note('51-0'));
  await t.tell(gap('20-0'), note('21-0'));
  assert.deepEqual(t.heard(), ['50-0', '50-0', '51-0', '20-0', '21-0']);
  assert.equal(t.events('gap').length, 2);
  assert.deepEqual(t.last.poll, [55, '21-0']);
});

test('a gap that is told again is told again, but not asked for without a pause', async () => {
  const t = setUp();
  await t.open();
  await t.tell(gap('5-0'));
  await t.tell(gap('5-0'));
  assert.equal(t.events('gap').length, 2);
  assert.equal(t.asked.length, 3);
  await t.pass(500);
  assert.equal(t.asked.length, 4);
});

test('an answer that was lost before there was a place may have had something', async () => {
  const t = setUp();
  await t.open();
  await t.fail();
  await t.pass(500);
  await t.tell(note('5-0'));
  assert.deepEqual(t.events('gap'), [{ id: null, time: t.clock.now() }]);
  assert.deepEqual(t.heard(), [null, '5-0']);
  await t.fail();
  await t.pass(500);
  await t.tell();
  assert.equal(t.events('gap').length, 1, 'with a place the relay knows better');
});

test('so does an answer that came when the client had stopped', async () => {
  const t = setUp();
  await t.open();
  t.client.stop();
  await t.tell(note('5-0'));
  assert.deepEqual(t.heard(), []);
  await t.open();
  assert.deepEqual(t.heard(), [null]);
});

test('a poll that was refused has taken nothing', async () => {
  const t = setUp();
  await t.open();
  await t.answer(503, 'no node in reach');
  await t.pass(500);
  await t.tell();
  assert.deepEqual(t.events('gap'), []);
});

// Listeners that take their time.

test('the next notification, and the next poll, wait for the listeners', async () => {
  const t = setUp();
  const goOn = [];
  t.client.addEventListener('private', () => new Promise((resolve) => { goOn.push(resolve); }));
  await t.open();
  await t.tell(note('1-0'), note('2-0'));
  assert.deepEqual(t.heard(), ['1-0']);
  assert.equal(t.client.place, null);
  goOn[0]();
  await settled();
  assert.deepEqual(t.heard(), ['1-0', '2-0']);
  assert.equal(t.client.place, '1-0');
  assert.equal(t.asked.length, 2);
  goOn[1]();
  await settled();
  assert.deepEqual(t.last.poll, [55, '2-0']);
});

test('what keeps the place is waited for, too', async () => {
  const t = setUp();
  let kept;
  t.client.addEventListener('place', () => new Promise((resolve) => { kept = resolve; }));
  await t.open();
  await t.tell(note('1-0'));
  assert.equal(t.asked.length, 2);
  kept();
  await settled();
  assert.equal(t.asked.length, 3);
});

for (const [how, fail] of [['is rejected', () => Promise.reject(new Error('oh'))], ['throws', () => { throw new Error('oh'); }]]) {
  test(`a listener that ${how} is told of, and stops nothing`, async () => {
    const t = setUp();
    t.client.addEventListener('private', fail, { once: true });
    await t.open();
    await t.tell(note('1-0'), note('2-0'));
    assert.deepEqual(t.heard(), ['1-0', '2-0']);
    const [{ code, cause }, ...more] = t.events('error');
    assert.deepEqual([code, cause.message, more], ['HANDLER', 'oh', []]);
    assert.deepEqual(t.last.poll, [55, '2-0']);
  });
}

test('a failure that nobody listens to is shown where programs show what they did not expect', async (t) => {
  const shown = [];
  t.mock.method(globalThis, 'queueMicrotask', (run) => {
    try {
      run();
    } catch (error) {
      shown.push(error.message);
    }
  });
  const client = new PullClient({ url: 'https://relay.test', page: null, fetch: async () => answer(200, { notifications: [note('1-0')] }) });
  const told = new Promise((resolve) => { client.addEventListener('place', resolve); });
  client.addEventListener('private', () => Promise.reject(new Error('oh')));
  client.start();
  await told;
  client.stop();
  assert.deepEqual(shown, ['oh']);
});

test('listeners are removed, and heard once, as of any other target', async () => {
  const t = setUp();
  let heard = 0;
  const listener = () => { heard++; };
  t.client.addEventListener('private', listener);
  t.client.addEventListener('private', listener);
  await t.open();
  await t.tell(note('1-0'));
  assert.equal(heard, 1);
  t.client.removeEventListener('private', listener);
  t.client.removeEventListener('group', listener);
  await t.tell(note('2-0'));
  assert.equal(heard, 1);
});

// Stopping.

test('stopping ends the poll, and the client goes on from there', async () => {
  const t = setUp();
  await t.open();
  await t.tell(note('1-0'));
  const { signal } = t.last;
  t.client.stop();
  assert.equal(signal.aborted, true);
  assert.equal(t.client.state, 'closed');
  assert.deepEqual(t.events('close'), [{ signedOut: false }]);
  await settled();
  assert.equal(t.clock.size, 0);
  assert.deepEqual([t.page.count, t.page.document.count], [0, 0]);
  const before = t.asked.length;
  t.client.start();
  await settled();
  assert.deepEqual([t.asked.length, t.last.poll], [before + 1, [0, '1-0']]);
});

test('stopping while a listener works: what follows comes after the next start, once', async () => {
  const t = setUp();
  let goOn;
  t.client.addEventListener('private', () => new Promise((resolve) => { goOn = resolve; }), { once: true });
  await t.open();
  await t.tell(note('1-0'), note('2-0'));
  t.client.stop();
  t.client.start();
  await settled();
  assert.equal(t.asked.length, 2, 'it waits for the listener');
  goOn();
  await settled();
  assert.deepEqual(t.last.poll, [0, '1-0']);
  await t.tell(note('2-0'));
  assert.deepEqual(t.heard(), ['1-0', '2-0']);
});

test('stopping cuts a wait short', async () => {
  const t = setUp();
  await t.open();
  await t.answer(503, '', { 'Retry-After': '100' });
  assert.equal(t.client.state, 'waiting');
  t.client.stop();
  await settled();
  assert.equal(t.clock.size, 0);
  assert.equal(t.client.state, 'closed');
});

test('without a session it ends', async () => {
  const t = setUp();
  t.client.start();
  await settled();
  await t.answer(401, { error: { code: 'unauthorized', message: 'sign in' } });
  assert.equal(t.client.state, 'closed');
  assert.deepEqual(t.events('close'), [{ signedOut: true }]);
  assert.equal(t.clock.size, 0);
  t.client.start();
  await settled();
  assert.equal(t.asked.length, 2);
});
