/** PullClient: how it comes back, and how little it asks of a relay that is in trouble. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { settled } from './fakes.js';
import { note, setUp } from './pullfakes.js';

const delays = (t) => t.events('reconnecting').map(({ delay }) => delay);

test('the waits double up to a bound, and an answer ends that', async () => {
  const t = setUp();
  await t.open();
  for (let i = 0; i < 7; i++) {
    await t.fail();
    assert.equal(t.client.state, 'waiting');
    await t.pass(delays(t).at(-1));
    assert.deepEqual(t.last.poll, [0, null], 'not held before the relay has answered');
  }
  assert.deepEqual(delays(t), [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
  assert.deepEqual(t.events('reconnecting').at(-1), { code: 'NETWORK', reason: 'the relay did not answer', status: 0, attempt: 7, delay: 15_000 });
  await t.tell();
  assert.equal(t.client.state, 'open');
  assert.deepEqual(t.last.poll, [55, null]);
  await t.fail();
  assert.equal(delays(t).at(-1), 500);
});

for (const [status, code, body] of [
  [429, 'TOO_MANY_REQUESTS', { error: { code: 'too_many_requests', message: 'slow down' } }],
  [503, 'UNAVAILABLE', { error: { code: 'unavailable', message: 'later' } }],
  [503, 'UNAVAILABLE', 'no node in reach\n'],
]) {
  test(`a Retry-After with ${status} is waited for, and something random: ${JSON.stringify(body)}`, async () => {
    const t = setUp();
    await t.open();
    await t.answer(status, body, { 'Retry-After': '7' });
    assert.deepEqual(delays(t), [7_500]);
    assert.deepEqual([t.events('reconnecting')[0].code, t.events('reconnecting')[0].status], [code, status]);
    t.client.start();
    t.page.fire();
    assert.equal(delays(t).at(-1), 7_000, 'cut short, and not below what was asked for');
    await t.pass(6_999);
    assert.equal(t.asked.length, 2);
    await t.pass(1);
    assert.equal(t.asked.length, 3);
  });
}

test('a Retry-After of years is not obeyed to the end', async () => {
  const t = setUp();
  await t.open();
  await t.answer(503, '', { 'Retry-After': '999999999' });
  assert.deepEqual(delays(t), [86_400_500]);
});

for (const [what, status, body] of [
  ['a page', 200, '<h1>Welcome</h1>'],
  ['a text', 200, '"hello"'],
  ['a notification without an id', 200, { notifications: [{ notification: 'gap' }] }],
  ['an id that is none', 200, { notifications: [note('soon')] }],
  ['one that is no list', 200, { notifications: 'many' }],
  ['404', 404, 'not here'],
]) {
  test(`an answer that is none: ${what}`, async () => {
    const t = setUp();
    await t.open();
    await t.answer(status, body);
    assert.equal(t.events('reconnecting')[0].code, 'BAD_ANSWER');
    assert.deepEqual(t.heard(), []);
  });
}

test('a node that answers at once, and empty, is left a short while', async () => {
  const t = setUp();
  await t.open();
  for (let i = 0; i < 3; i++) {
    const before = t.asked.length;
    await t.tell();
    await t.pass(499);
    assert.equal(t.asked.length, before);
    await t.pass(1);
    assert.equal(t.asked.length, before + 1);
    assert.deepEqual(t.last.poll, [55, null]);
  }
  assert.equal(t.client.state, 'open', 'nothing has failed');
  assert.deepEqual(t.events('reconnecting'), []);
});

test('an answer that took its time is followed by the next poll at once', async () => {
  const t = setUp();
  await t.open();
  await t.pass(27_500);
  await t.tell();
  assert.equal(t.asked.length, 3);
  await t.pass(27_499);
  await t.tell();
  assert.equal(t.asked.length, 3);
});

test('a poll that is not answered at all is given up', async () => {
  const t = setUp({ requestTimeout: 2_000 });
  t.client.start();
  await settled();
  await t.pass(1_999);
  assert.equal(t.client.state, 'connecting');
  await t.pass(1);
  assert.equal(t.client.state, 'waiting');
  await t.pass(500);
  await t.tell();
  await t.pass(56_999);
  assert.equal(t.client.state, 'open');
  await t.pass(1);
  assert.equal(t.client.state, 'waiting');
});

test('how long a poll is held is an option, within what relays take', async () => {
  for (const [pollTimeout, wanted] of [[20, 20], [0, 1], [500, 120]]) {
    const t = setUp({ pollTimeout });
    await t.open();
    assert.deepEqual(t.last.poll, [wanted, null]);
  }
});

// The page.

test('when the network is back the poll is asked anew, and a wait ends', async () => {
  const t = setUp({ place: '1-0' });
  await t.open();
  const { signal } = t.last;
  t.page.fire();
  await settled();
  assert.equal(signal.aborted, true);
  assert.deepEqual([t.asked.length, t.last.poll], [3, [0, '1-0']]);
  assert.deepEqual(t.events('reconnecting'), []);
  await t.fail();
  t.page.fire();
  await t.pass(0);
  assert.equal(t.asked.length, 4);
});

test('who looks at the page again has a poll renewed that may have died', async () => {
  const t = setUp({ place: '1-0' });
  await t.open();
  await t.pass(10_000);
  t.page.document.fire();
  await settled();
  assert.equal(t.asked.length, 2, 'a young one is left alone');
  await t.pass(1);
  t.page.document.fire();
  await settled();
  assert.deepEqual([t.asked.length, t.last.poll], [3, [0, '1-0']]);
});

test('a page that is hidden for long holds no poll, and asks now and then, until it is looked at', async () => {
  const t = setUp({ place: '1-0' });
  await t.open();
  t.page.document.visibilityState = 'hidden';
  t.page.document.fire();
  for (let i = 0; i < 5; i++) {
    await t.pass(55_000);
    await t.tell();
    assert.deepEqual(t.last.poll, [55, '1-0']);
  }
  await t.pass(25_000);
  await t.tell(note('2-0'));
  assert.deepEqual(t.last.poll, [0, '2-0']);
  const before = t.asked.length;
  await t.tell();
  await t.pass(59_999);
  assert.equal(t.asked.length, before);
  await t.pass(1);
  assert.deepEqual([t.asked.length, t.last.poll], [before + 1, [0, '2-0']]);
  await t.tell(note('3-0'));
  assert.deepEqual(t.heard(), ['2-0', '3-0']);
  t.page.document.visibilityState = 'visible';
  t.page.document.fire();
  await t.pass(0);
  assert.equal(t.asked.length, before + 2);
  assert.deepEqual(t.last.poll, [55, '3-0']);
});
