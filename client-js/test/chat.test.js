/** Chat: the rooms and their messages, over connections that come and go. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatClient, compareIds } from '../chat.js';
import { CATCH_UP_PAGES } from '../rooms.js';
import { ME, YOU, contents, message, page, room, setUp } from './chatfakes.js';
import { settled } from './fakes.js';

test('is open once it is greeted, with the rooms in their order, oldest message first', () => {
  const t = setUp();
  assert.equal(t.client.state, 'closed');
  t.client.connect();
  assert.equal(t.socket.url, 'ws://relay.test/api/ws?presence=1');
  t.socket.shake();
  assert.equal(t.client.state, 'connecting');
  t.socket.hello([room(1, 3, true, { online: [ME, YOU] }), { id: 'a', name: 'Attic', ...page(1, 0) }]);
  assert.equal(t.client.state, 'open');
  assert.deepEqual(t.client.me, ME);
  assert.deepEqual([...t.client.rooms.keys()], ['7', 'a']);
  const { name, hasMoreMessages, online, gaps } = t.client.rooms.get('7');
  assert.deepEqual([name, hasMoreMessages, online, [...gaps]], ['Harbour', true, [ME, YOU], []]);
  assert.deepEqual(t.holds(), ['m1', 'm2', 'm3']);
  assert.deepEqual(t.log, [
    ['state', { state: 'connecting' }],
    ['state', { state: 'open' }],
    ['open', { me: ME, fresh: true }],
  ]);
  assert.equal(t.clock.size, 0, 'the greeting has beaten its deadline');
});

test('the URL is that of the page, and keeps its parameters', () => {
  assert.throws(() => new ChatClient(), TypeError, 'without a page there is none');
  const t = setUp({ url: 'https://relay.test/api/ws?a=b' });
  t.client.connect();
  assert.equal(t.socket.url, 'wss://relay.test/api/ws?a=b&presence=1');
});

test('messages are handed on in order, each once', () => {
  const t = setUp();
  t.open();
  t.socket.live([message(4), message(5)]);
  t.socket.live([message(5)]);
  t.socket.live([message(6)], 'elsewhere');
  t.socket.live([message(7)]);
  assert.deepEqual(t.heard(), ['m4', 'm5', 'm7']);
  assert.deepEqual(t.holds(), contents(1, 5).concat('m7'));
  assert.deepEqual(t.events('message')[0], { roomId: '7', message: message(4) });
});

test('a message that was put before another one gets its place there', () => {
  const t = setUp();
  t.open([room(2, 2)]);
  t.socket.live([message(5)]);
  t.socket.live([message(4)]);
  assert.deepEqual(t.holds(), ['m2', 'm4', 'm5']);
  assert.deepEqual(t.heard(), ['m5', 'm4']);
});

test('ids are compared as numbers', () => {
  const ordered = ['0-0', '0-1', '9-0', '9-9', '9-10', '10-0', '1700000000000-18446744073709551614', '1700000000000-18446744073709551615'];
  for (const [i, a] of ordered.entries()) {
    for (const [j, b] of ordered.entries()) assert.equal(Math.sign(compareIds(a, b)), Math.sign(i - j), `${a} and ${b}`);
  }
});

test('frames that are none, or of a later version, are passed over', () => {
  const t = setUp();
  t.open();
  const from = t.log.length;
  for (const frame of ['', 'null', '7', '{}', '[]', { type: 7 }, { type: 'serverMessages' }, new ArrayBuffer(2),
    { type: 'serverMessages', payload: { roomId: '7' } },
    { type: 'serverMessages', payload: { roomId: 7, messages: [message(9)] } },
    { type: 'serverMessages', payload: { roomId: '7', messages: [null, {}, { ...message(9), id: 'x' }, { ...message(9), user: 7 }] } },
    { type: 'roomHistory', payload: { roomId: '7', messages: [message(0)], hasMoreMessages: true } },
    { type: 'presence', payload: { roomId: '7', user: null, online: true } },
    { type: 'hello', payload: { me: YOU, rooms: [] } },
    { type: 'dance', payload: { roomId: '7' } }]) t.socket.say(frame);
  assert.deepEqual(t.log.slice(from), []);
  assert.deepEqual(t.holds(), contents(1, 3));
});

test('a greeting that is none is not waited for for ever', () => {
  const t = setUp({ requestTimeout: 700 });
  t.client.connect();
  t.socket.shake();
  t.socket.tell('hello', { me: ME });
  t.socket.tell('error', { code: 'UNAVAILABLE', message: 'Redis is away' });
  assert.equal(t.client.state, 'connecting');
  t.clock.advance(700);
  assert.equal(t.client.state, 'waiting');
});

// Coming back.

test('a connection that comes back goes on from where each room was', () => {
  const t = setUp();
  t.open([room(1, 3), { id: 'odd, one', name: 'Odd', ...page(1, 1) }, { id: 'empty', name: 'Empty', ...page(1, 0) }]);
  t.socket.live([message(4)]);
  t.socket.die();
  assert.deepEqual(t.events('reconnecting'), [{ code: 1006, reason: '', delay: 500, attempt: 1 }]);
  t.clock.advance(500);
  assert.equal(t.socket.since, '7:1004-0,odd%2C%20one:1001-0');
});

test('what was missed is handed on, before anything newer, and nothing is doubled', () => {
  const t = setUp();
  t.open();
  t.socket.live([message(4)]);
  t.lose();
  const from = t.log.length;
  t.socket.hello([room(5, 6, true, { recovered: true })]);
  t.socket.live([message(7)]);
  assert.deepEqual(t.log.slice(from).map(([type]) => type), ['state', 'open', 'message', 'message', 'message']);
  assert.deepEqual(t.events('open').at(-1), { me: ME, fresh: false });
  assert.deepEqual(t.heard(), ['m4', 'm5', 'm6', 'm7']);
  assert.deepEqual(t.holds(), contents(1, 7));
  assert.deepEqual(t.socket.take(), [], 'nothing had to be asked for');
});

test('nothing missed: nothing is asked, nothing told', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(1, 0, true, { recovered: true })]);
  assert.deepEqual(t.heard(), []);
  assert.deepEqual(t.socket.take(), []);
});

test('a relay that cannot resume sends a page: what is known in it is not doubled', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(1, 5)]);
  assert.deepEqual(t.heard(), ['m4', 'm5']);
  assert.deepEqual(t.holds(), contents(1, 5));
});

test('a hole of more than a page is closed by paging; what comes meanwhile waits for its turn', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  assert.deepEqual(t.heard(), []);
  assert.deepEqual(t.socket.take(), [['requestRoomHistory', { roomId: '7', firstMessageId: message(151).id }]]);
  t.socket.live([message(251)]);
  t.socket.live([message(251)]);
  assert.deepEqual(t.holds(), contents(1, 3));
  t.socket.history(page(51, 150, true));
  assert.deepEqual(t.socket.take(), [['requestRoomHistory', { roomId: '7', firstMessageId: message(51).id }]]);
  t.socket.history(page(1, 50));
  assert.deepEqual(t.heard(), contents(4, 251));
  assert.deepEqual(t.holds(), contents(1, 251));
  assert.deepEqual(t.events('gap'), []);
  assert.deepEqual(t.socket.take(), []);
  assert.equal(t.clock.size, 0);
});

test('exactly a page missed takes one question', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(4, 103, true, { recovered: true })]);
  assert.equal(t.socket.take().length, 1);
  t.socket.history(page(1, 3));
  assert.deepEqual(t.heard(), contents(4, 103));
});

test('a short page of long messages leaves a hole when the relay says so', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(8, 9, true, { recovered: true, complete: false })]);
  assert.deepEqual(t.heard(), []);
  assert.deepEqual(t.socket.take(), [['requestRoomHistory', { roomId: '7', firstMessageId: message(8).id }]]);
  t.socket.history(page(3, 7, true));
  assert.deepEqual(t.heard(), contents(4, 9));
  assert.deepEqual(t.events('gap'), []);
});

test('a full page that is all there was leaves none', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(4, 103, true, { recovered: true, complete: true })]);
  assert.deepEqual(t.socket.take(), []);
  assert.deepEqual(t.heard(), contents(4, 103));
});

test('a connection lost while a hole is closed goes on from before the hole', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  t.socket.history(page(51, 150, true));
  t.lose();
  assert.equal(t.socket.since, `7:${message(3).id}`);
  t.socket.hello([room(152, 251, true, { recovered: true })]);
  t.socket.history(page(52, 151, true));
  t.socket.history(page(1, 51));
  assert.deepEqual(t.heard(), contents(4, 251));
});

test('a hole of too many pages is not closed: the room begins anew', async () => {
  const t = setUp({ roomLimit: 2_000 });
  t.open([room(1, 3)]);
  const newest = (CATCH_UP_PAGES + 2) * 100;
  t.lose().hello([room(newest - 99, newest, true, { recovered: true })]);
  for (let i = 1; i <= CATCH_UP_PAGES; i++) t.socket.history(page(newest - 99 - i * 100, newest - i * 100, true));
  assert.deepEqual(t.events('reset'), [{ roomId: '7' }]);
  assert.deepEqual(t.heard(), []);
  const oldest = newest - 99 - CATCH_UP_PAGES * 100;
  assert.deepEqual(t.holds(), contents(oldest, newest));
  assert.equal(t.client.rooms.get('7').hasMoreMessages, true);
  assert.equal(t.socket.take().length, CATCH_UP_PAGES);
  t.socket.live([message(newest + 1)]);
  assert.deepEqual(t.heard(), [`m${newest + 1}`]);
  const older = t.client.loadOlder('7');
  t.socket.history(page(1, oldest - 1));
  assert.deepEqual((await older).map(({ content }) => content), contents(1, oldest - 1));
  assert.deepEqual(t.holds(), contents(1, newest + 1));
});

test('a hole that is one page short of that is closed', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  const newest = (CATCH_UP_PAGES + 1) * 100;
  t.lose().hello([room(newest - 99, newest, true, { recovered: true })]);
  for (let i = 1; i <= CATCH_UP_PAGES; i++) t.socket.history(page(newest - 99 - i * 100, newest - i * 100, i < CATCH_UP_PAGES));
  assert.deepEqual(t.events('reset'), []);
  assert.deepEqual(t.heard(), contents(4, newest));
});

test('a hole whose pages come too slowly is given up, and a page that comes late is one of history', () => {
  const t = setUp({ requestTimeout: 1_000 });
  t.open([room(1, 3)]);
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  t.clock.advance(600);
  t.socket.history(page(51, 150, true));
  t.socket.live([message(251)]);
  t.clock.advance(399);
  assert.deepEqual(t.events('reset'), []);
  t.clock.advance(1);
  assert.deepEqual(t.events('reset'), [{ roomId: '7' }]);
  assert.deepEqual(t.holds(), contents(51, 251));
  t.socket.history(page(1, 50));
  assert.deepEqual(t.holds(), contents(1, 251));
  assert.deepEqual(t.events('history').map(({ messages }) => messages.length), [50]);
  assert.equal(t.client.state, 'open');
  assert.equal(t.clock.size, 0);
});

test('a hole that cannot be closed since the relay refuses is given up', () => {
  const t = setUp();
  t.open([room(1, 3)]);
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  t.socket.refuse('UNAVAILABLE');
  assert.deepEqual(t.events('reset'), [{ roomId: '7' }]);
  assert.deepEqual(t.holds(), contents(151, 250));
  assert.equal(t.clock.size, 0);
});

test('what the relay has lost is a gap at its place', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(5, 6, false, { recovered: false })]);
  assert.deepEqual(t.heard(), ['gap', 'm5', 'm6']);
  assert.deepEqual(t.events('gap'), [{ roomId: '7', after: message(3).id }]);
  assert.deepEqual([...t.client.rooms.get('7').gaps], [message(3).id]);
});

test('a gap with more than a page after it is told once the pages are there', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(151, 250, true, { recovered: false })]);
  t.socket.history(page(100, 150, true));
  t.socket.history(page(2, 99, true));
  assert.deepEqual(t.heard(), ['gap', ...contents(4, 250)]);
});

test('a gap with nothing after it is told too', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(1, 2, false, { recovered: false })]);
  assert.deepEqual(t.heard(), ['gap']);
  assert.deepEqual(t.holds(), contents(1, 3));
});

test('what stands now where something was lost is handed on too', () => {
  const t = setUp();
  t.open([room(1, 2)]);
  t.socket.live([message(8)]);
  t.lose().hello([room(1, 2, false, { messages: [message(9), message(7), message(2), message(1)], recovered: false })]);
  assert.deepEqual(t.heard(), ['m8', 'gap', 'm7', 'm9']);
  assert.deepEqual(t.holds(), ['m1', 'm2', 'm7', 'm8', 'm9']);
});

test('a relay that resumes nothing, and has nothing left of what was known, has lost it', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(8, 9)]);
  assert.deepEqual(t.heard(), ['gap', 'm8', 'm9']);
  t.lose().hello([room(1, 0)]);
  assert.deepEqual(t.heard(), ['gap', 'm8', 'm9', 'gap']);
});

test('the relay tells of a gap at its place among the messages', () => {
  const t = setUp();
  t.open([room(1, 0)]);
  t.socket.refuse('HISTORY_GAP');
  t.socket.live([message(1)]);
  t.socket.refuse('HISTORY_GAP');
  t.socket.refuse('HISTORY_GAP', 'elsewhere');
  t.socket.live([message(2)]);
  assert.deepEqual(t.heard(), ['gap', 'm1', 'gap', 'm2']);
  assert.deepEqual(t.events('gap'), [{ roomId: '7', after: null }, { roomId: '7', after: message(1).id }]);
  assert.deepEqual(t.events('error'), []);
});

test('a gap beyond a hole keeps its place', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(151, 250, true, { recovered: true })]);
  t.socket.refuse('HISTORY_GAP');
  t.socket.live([message(300)]);
  t.socket.history(page(51, 150, true));
  t.socket.history(page(1, 50));
  assert.deepEqual(t.heard(), [...contents(4, 250), 'gap', 'm300']);
});

test('a room that was empty misses nothing either', () => {
  const t = setUp();
  t.open([room(1, 0)]);
  t.lose();
  assert.equal(t.socket.since, null);
  t.socket.hello([room(51, 150, true)]);
  assert.deepEqual(t.heard(), []);
  t.socket.history(page(1, 50));
  assert.deepEqual(t.heard(), contents(1, 150));
});

test('rooms that are new are there, and those that are gone are not', () => {
  const t = setUp();
  t.open();
  t.lose().hello([{ id: '8', name: 'Mill', ...page(1, 2) }]);
  assert.deepEqual([...t.client.rooms.keys()], ['8']);
  assert.deepEqual(t.holds('8'), ['m1', 'm2']);
  assert.deepEqual(t.heard(), [], 'what a new room begins with is its history');
});

test('someone else begins anew', () => {
  const t = setUp();
  t.open();
  t.lose().hello([room(8, 9)], YOU);
  assert.deepEqual(t.events('open').at(-1), { me: YOU, fresh: true });
  assert.deepEqual(t.holds(), ['m8', 'm9']);
  assert.deepEqual(t.heard(), []);
});

test('close and connect go on like a lost connection', () => {
  const t = setUp();
  t.open();
  t.client.close();
  assert.equal(t.socket.closedWith, 1000);
  assert.deepEqual(t.events('close'), [{ code: 1000, reason: '', signedOut: false }]);
  t.client.connect();
  assert.equal(t.socket.since, `7:${message(3).id}`);
  t.client.close();
  assert.equal(t.clock.size, 0);
  assert.equal(t.page.count + t.page.document.count, 0);
});

for (const when of ['at the greeting', 'later']) {
  test(`1008 ${when} means that there is no session: the client stops`, () => {
    const t = setUp();
    t.client.connect();
    if (when === 'later') t.socket.hello();
    else t.socket.shake();
    t.socket.die(1008, 'sign in first');
    assert.equal(t.client.state, 'closed');
    assert.deepEqual(t.events('close'), [{ code: 1008, reason: 'sign in first', signedOut: true }]);
    t.clock.advance(1e7);
    t.page.fire();
    assert.equal(t.sockets.length, 1);
    assert.equal(t.clock.size, 0);
  });
}

for (const [code, least, most] of [[1012, 0, 1_000], [1013, 1_000, 2_000], [4000, 0, 1_000], [1006, 0, 1_000]]) {
  test(`${code}: it comes back after ${least} to ${most} ms`, () => {
    for (const [jitter, delay] of [[0, least], [0.999_999, most]]) {
      const t = setUp({ random: () => jitter });
      t.open().die(code);
      assert.equal(t.events('reconnecting')[0].delay, delay);
    }
  });
}

test('a refused handshake is asked about over HTTP', async () => {
  const asked = [];
  const t = setUp({
    fetch: async (url) => {
      asked.push(url);
      return { status: 503, headers: new Headers({ 'Retry-After': '7' }), text: async () => '' };
    },
  });
  t.client.connect();
  t.socket.die();
  await settled();
  assert.deepEqual(asked, ['http://relay.test/api/ws']);
  assert.deepEqual(t.events('reconnecting'), [{ code: 1006, reason: 'refused with HTTP status 503', delay: 7_500, attempt: 1 }]);
});

test('close in a listener of any event holds', () => {
  for (const [type, start] of [
    ['state', (t) => t.client.connect()],
    ['open', (t) => t.open()],
    ['message', (t) => { t.open(); t.lose().hello([room(4, 5, true, { recovered: true }), { id: '8', name: 'Mill', ...page(1, 2) }]); }],
    ['gap', (t) => { t.open(); t.lose().hello([room(5, 6, false, { recovered: false })]); }],
    ['reconnecting', (t) => t.open().die()],
  ]) {
    const t = setUp();
    t.client.addEventListener(type, () => t.client.close());
    start(t);
    t.clock.advance(1e6);
    assert.equal(t.client.state, 'closed', type);
    assert.equal(t.clock.size, 0, type);
    assert.equal(t.page.count + t.page.document.count, 0, type);
  }
});

test('online and a look at the page check a connection that seems open', () => {
  const t = setUp({ requestTimeout: 500 });
  t.open();
  t.page.fire();
  t.page.document.fire();
  assert.deepEqual(t.socket.take(), [['resume', { rooms: { 7: message(3).id } }]], 'one question is enough');
  t.socket.history(page(4, 4, true, { recovered: true }));
  t.clock.advance(500);
  assert.equal(t.client.state, 'open');
  assert.deepEqual(t.heard(), ['m4'], 'what it told besides is not lost');
  t.page.fire();
  t.socket.take();
  t.socket.refuse('UNAVAILABLE');
  t.clock.advance(500);
  assert.equal(t.client.state, 'open', 'an error is an answer');
  assert.deepEqual(t.events('reset'), []);
  t.page.fire();
  t.clock.advance(500);
  assert.equal(t.client.state, 'waiting', 'no answer: it had died unseen');
  assert.equal(t.sockets[0].closedWith, null);
});

test('a room without messages can be asked too', () => {
  const t = setUp({ requestTimeout: 500 });
  t.open([room(1, 0)]);
  t.page.fire();
  assert.deepEqual(t.socket.take(), [['requestRoomHistory', { roomId: '7', firstMessageId: '0-0' }]]);
  t.socket.history(page(1, 0));
  t.clock.advance(500);
  assert.equal(t.client.state, 'open');
});
