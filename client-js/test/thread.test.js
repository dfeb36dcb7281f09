/** What was said in a conversation, put together from pages that shift. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PAGE, Thread } from '../app/thread.js';
import { settled } from './fakes.js';

const message = (n) => ({ id: `m${n}`, senderId: 1, message: `text ${n}`, timestamp: n });

/** m1 and so on, from one to another number. */
const ids = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `m${from + i}`);

/** A thread, and all that was said. */
function setUp(count) {
  const all = [];
  const asked = [];
  const say = (n = 1) => { for (let i = 0; i < n; i++) all.push(message(all.length + 1)); };
  say(count);
  const t = {
    all,
    asked,
    say,
    /** Called before each page is read. */
    before: () => {},
    thread: new Thread(async (index) => {
      t.before(index);
      asked.push(index);
      const newest = [...all].reverse();
      return { messages: newest.slice(index * PAGE, (index + 1) * PAGE), hasMore: newest.length > (index + 1) * PAGE };
    }),
    ids: () => t.thread.messages.map(({ id }) => id),
  };
  return t;
}

test('it begins with the newest page, and pages back to the first message', async () => {
  const t = setUp(45);
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(26, 45), true]);
  await t.thread.older();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(6, 45), true]);
  await t.thread.older();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(1, 45), false]);
});

for (const count of [0, 1, 19, 20, 21, 40]) {
  test(`${count} messages, read to the beginning`, async () => {
    const t = setUp(count);
    await t.thread.refresh();
    for (let i = 0; i < 3 && t.thread.hasOlder; i++) await t.thread.older();
    assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(1, count), false]);
  });
}

test('what is new is fetched to where it meets what is known', async () => {
  const t = setUp(30);
  await t.thread.refresh();
  t.say(3);
  t.asked.length = 0;
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.asked], [ids(11, 33), [0]]);
  t.say(50);
  t.asked.length = 0;
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.asked], [ids(11, 83), [0, 1, 2]]);
  await t.thread.refresh();
  assert.deepEqual(t.ids(), ids(11, 83));
});

test('messages that come between two pages are neither missed nor there twice', async () => {
  const t = setUp(100);
  await t.thread.refresh();
  t.say(30);
  t.before = () => t.say(7);
  await t.thread.refresh();
  t.before = () => {};
  await t.thread.refresh();
  assert.deepEqual(t.ids(), ids(81, t.all.length));
  t.before = () => t.say(7);
  await t.thread.older();
  t.before = () => {};
  for (let i = 0; i < 10 && t.thread.hasOlder; i++) await t.thread.older();
  await t.thread.refresh();
  assert.deepEqual(t.ids(), ids(1, t.all.length));
});

test('more than is fetched to close the hole: it begins anew, and leads back', async () => {
  const t = setUp(20);
  await t.thread.refresh();
  t.say(200);
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(21, 220), true]);
  t.say(201);
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(222, 421), true]);
  await t.thread.older();
  assert.deepEqual(t.ids(), ids(202, 421));
});

test('a conversation that began anew is shown anew', async () => {
  const t = setUp(5);
  await t.thread.refresh();
  t.all.splice(0, 5, message(90), message(91));
  await t.thread.refresh();
  assert.deepEqual([t.ids(), t.thread.hasOlder], [['m90', 'm91'], false]);
});

test('what was sent or pulled stands at the end, until the pages say where it belongs', async () => {
  const t = setUp(5);
  await t.thread.refresh();
  t.say(3);
  t.thread.add([message(8)]);
  t.thread.add([message(6), message(8), message(2)]);
  assert.deepEqual(t.ids(), [...ids(1, 5), 'm8', 'm6']);
  await t.thread.refresh();
  assert.deepEqual(t.ids(), ids(1, 8));
});

test('a page that does not come changes nothing, and stands in nobody\'s way', async () => {
  const t = setUp(50);
  await t.thread.refresh();
  t.say(30);
  t.before = (index) => { if (index === 1) throw new Error('no'); };
  await assert.rejects(t.thread.refresh(), /no/);
  await assert.rejects(t.thread.older().then(() => t.thread.refresh()), /no/);
  assert.deepEqual(t.ids(), ids(31, 50));
  t.before = () => {};
  await t.thread.refresh();
  await t.thread.older();
  assert.deepEqual(t.ids(), ids(21, 80));
});

test('who cannot catch up with what comes is told', async () => {
  const t = setUp(30);
  await t.thread.refresh();
  t.before = () => t.say(25);
  await assert.rejects(t.thread.older(), /meanwhile/);
  t.before = () => {};
  assert.deepEqual([t.ids(), t.thread.hasOlder], [ids(11, 30), true]);
});

test('those who ask while a refresh has not begun share one', async () => {
  const t = setUp(5);
  const [one, two] = [t.thread.refresh(), t.thread.refresh()];
  assert.equal(one, two);
  await settled();
  const three = t.thread.refresh();
  assert.notEqual(one, three);
  await Promise.all([one, two, three]);
  assert.deepEqual(t.asked, [0, 0]);
});

test('no more is kept than fits, but for what was paged back to', async () => {
  const t = setUp(60);
  await t.thread.refresh();
  await t.thread.older();
  for (let i = 0; i < 10; i++) {
    t.say(150);
    await t.thread.refresh();
  }
  assert.equal(t.ids().length, 1_020);
  assert.deepEqual([t.ids().at(-1), t.thread.hasOlder], [`m${t.all.length}`, true]);
});
