/** Sessions that outlive their connections: what is resumed, and what is told when something may be missing. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SEEN_LIMIT, TOKEN_REFRESH } from '../session.js';
import { ME, YOU, outcome, setUp } from './fakes.js';

const URL_ = 'ws://relay.test/v1/texto';

/** A client that is connected and has a token. */
function resumable(options = {}, token = 'one') {
  const t = setUp(options);
  t.client.connect();
  t.socket.greet(ME, 'n1', { resume: token });
  return t;
}

/** The connection is lost, and the next one is dialled. */
function lose(t, code = 1006) {
  t.socket.die(code);
  t.clock.advance(t.events('reconnecting').at(-1).delay);
}

/** The types of the events since a place in the log. */
const types = (t, from = 0) => t.log.slice(from).map(([type, { state }]) => (type === 'state' ? state : type));

test('the first connection asks for nothing, and the next one resumes', () => {
  const t = resumable();
  assert.equal(t.socket.url, URL_);
  assert.deepEqual([t.client.token, t.client.last], ['one', null]);
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=one`);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  assert.deepEqual(t.events('open').at(-1), { clientId: ME, node: 'n2', resumed: true, recovered: true });
  assert.deepEqual(t.events('gap'), []);
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=two`, 'with the newest token');
});

test('a connection that dies before its greeting keeps the token', () => {
  const t = resumable();
  lose(t);
  t.socket.shake();
  t.socket.say({ kind: 'error', id: 'fresh', data: { code: 'EBROKER', description: 'Redis is not reachable' } });
  lose(t, 1013);
  assert.equal(t.socket.url, `${URL_}?resume=one`);
});

test('the last message that was handled is named', () => {
  const t = resumable();
  t.socket.receive('r1');
  t.socket.receive('r2');
  assert.equal(t.client.last, 'r2');
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=one&last=r2`);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=two`, 'until a token comes, which tells the place by itself');
});

test('a message counts as handled once its listeners have run', () => {
  const t = resumable();
  t.client.addEventListener('message', () => assert.equal(t.client.last, null));
  t.socket.receive('r1');
  assert.equal(t.client.last, 'r1');
});

test('a message that comes again is acknowledged again, and not handed on', () => {
  const t = resumable();
  t.socket.receive('r1');
  t.socket.receive('r2');
  lose(t);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  for (const id of ['r1', 'r2', 'r3']) t.socket.receive(id);
  assert.deepEqual(t.events('message').map(({ id }) => id), ['r1', 'r2', 'r3']);
  assert.deepEqual(t.socket.sent.map(({ kind, id }) => [kind, id]), [['ack', 'r1'], ['ack', 'r2'], ['ack', 'r3']]);
  assert.equal(t.client.last, 'r3');
});

test(`${SEEN_LIMIT} messages are recognised, and no more`, () => {
  const t = resumable();
  for (let i = 0; i <= SEEN_LIMIT; i++) t.socket.receive(`r${i}`);
  t.socket.receive('r1');
  assert.equal(t.events('message').length, SEEN_LIMIT + 1, 'one of the last thousand');
  t.socket.receive('r0');
  assert.equal(t.events('message').length, SEEN_LIMIT + 2, 'the one before them');
});

test('a resumed session that may have missed something tells of it ahead of what is newer', () => {
  const t = resumable();
  t.socket.receive('r1');
  lose(t);
  const from = t.log.length;
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: false });
  t.socket.receive('r5');
  assert.deepEqual(types(t, from), ['open', 'gap', 'open', 'session', 'message', 'session']);
  assert.deepEqual(t.events('gap'), [
    { reason: 'away', description: 'messages that came while the connection was away may be missing' },
  ]);
  assert.deepEqual(t.events('open').at(-1), { clientId: ME, node: 'n2', resumed: true, recovered: false });
});

test('after a gap the token alone tells the place', () => {
  const t = resumable();
  t.socket.receive('r1');
  lose(t);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: false });
  assert.equal(t.client.last, null);
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=two`);
});

test('the relay tells of a gap while connected', () => {
  const t = resumable();
  t.socket.receive('r1');
  const from = t.log.length;
  t.socket.tell('fresh', { resume: 'two', recovered: false });
  assert.deepEqual(t.log.slice(from), [
    ['gap', { reason: 'relay', description: 'the relay may have lost messages' }],
    ['session', { token: 'two', last: null }],
  ]);
  assert.equal(t.client.state, 'open');
});

test('what is not about this session changes nothing', () => {
  const t = resumable();
  const from = t.log.length;
  t.socket.tell('fresh', { resume: 'two', recovered: false }, YOU);
  t.socket.say({ kind: 'connection', id: 'fresh', data: null });
  t.socket.tell('fresh', { resume: 7, recovered: 'false' });
  assert.equal(t.log.length, from);
  assert.equal(t.client.token, 'one');
});

test('a token that the relay does not take is forgotten, and a fresh session begun', () => {
  const t = resumable();
  t.socket.receive('r1');
  lose(t);
  const from = t.log.length;
  t.socket.shake();
  t.socket.say({ kind: 'error', id: 'fresh', client_id: YOU, data: { code: 'ERESUME', description: 'the token has expired' } });
  assert.deepEqual([t.client.token, t.client.last], [null, null]);
  t.socket.greet(YOU, 'n2', { resume: 'two' });
  assert.deepEqual(t.log.slice(from), [
    ['state', { state: 'open' }],
    ['gap', {
      reason: 'expired',
      description: 'the session could not be resumed: the address is a new one, and messages to the old one are lost',
    }],
    ['open', { clientId: YOU, node: 'n2', resumed: false, recovered: false }],
    ['session', { token: 'two', last: null }],
  ]);
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=two`);
});

test('a fresh session that broke off before its greeting is told of at the next one', () => {
  const t = resumable();
  lose(t);
  t.socket.shake();
  t.socket.say({ kind: 'error', id: 'fresh', data: { code: 'ERESUME', description: 'no' } });
  lose(t);
  assert.equal(t.socket.url, URL_);
  t.socket.greet(YOU, 'n2', { resume: 'two' });
  assert.deepEqual(t.events('gap').map(({ reason }) => reason), ['expired']);
});

test('a refusal after the greeting is none', () => {
  const t = resumable();
  t.socket.say({ kind: 'error', id: 'fresh', data: { code: 'ERESUME', description: 'no' } });
  assert.equal(t.client.token, 'one');
});

test('a relay that resumes nothing gives a new address, and that is told', () => {
  const t = setUp();
  t.open();
  lose(t);
  assert.equal(t.socket.url, URL_);
  t.socket.greet(YOU);
  assert.deepEqual(t.events('gap').map(({ reason }) => reason), ['expired']);
  assert.deepEqual(t.events('session'), []);
});

test('an older node among newer ones ends the session', () => {
  const t = resumable();
  lose(t);
  t.socket.greet(YOU);
  assert.equal(t.client.token, null);
  assert.deepEqual(t.events('gap').map(({ reason }) => reason), ['expired']);
  assert.deepEqual(t.events('session').at(-1), { token: null, last: null });
  lose(t);
  assert.equal(t.socket.url, URL_, 'the old address is not gone back to');
});

test('a fresh token is asked for every ten minutes', () => {
  const t = resumable();
  t.clock.advance(TOKEN_REFRESH - 1);
  assert.deepEqual(t.socket.sent, []);
  t.clock.advance(1);
  assert.deepEqual(t.socket.sent.map(({ kind, data }) => [kind, data]), [['registration', null]]);
  t.socket.tell(t.socket.sent[0].id, { resume: 'two' });
  assert.deepEqual(t.events('session').at(-1), { token: 'two', last: null });
  t.clock.advance(TOKEN_REFRESH);
  assert.equal(t.socket.sent.length, 2);
  t.socket.tell(t.socket.sent[1].id, { resume: 'three' });
  lose(t);
  assert.equal(t.socket.url, `${URL_}?resume=three`);
  assert.equal(TOKEN_REFRESH, 600_000);
});

test('a message is named by its token only', () => {
  const t = resumable();
  t.socket.receive('r1');
  t.clock.advance(TOKEN_REFRESH);
  assert.deepEqual([t.client.token, t.client.last], ['one', 'r1']);
  t.socket.tell(t.socket.sent.at(-1).id, { resume: 'two' });
  assert.deepEqual([t.client.token, t.client.last], ['two', null]);
  t.socket.receive('r2');
  assert.deepEqual([t.client.token, t.client.last], ['two', 'r2']);
});

test('an answer without a token changes nothing', () => {
  const t = resumable();
  t.socket.receive('r1');
  t.page.fire();
  t.socket.tell(t.socket.sent.at(-1).id, {});
  assert.deepEqual([t.client.token, t.client.last], ['one', 'r1']);
});

test('no answer to the question for a token: the connection had died unseen', () => {
  const t = resumable({ requestTimeout: 500 });
  t.clock.advance(TOKEN_REFRESH + 500);
  assert.equal(t.client.state, 'waiting');
  assert.equal(t.client.token, 'one');
});

test('an answer says again what the greeting said: that is no gap', () => {
  const t = resumable({ requestTimeout: 500 });
  lose(t);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: false });
  t.page.fire();
  t.socket.tell(t.socket.sent[0].id, { resume: 'three', recovered: false });
  assert.equal(t.events('gap').length, 1);
  t.page.fire();
  t.socket.receive('r1');
  t.clock.advance(500);
  t.socket.tell(t.socket.sent[1].id, { resume: 'four', recovered: false });
  assert.equal(t.events('gap').length, 1, 'nor is one that comes late');
  assert.equal(t.client.token, 'four');
  t.socket.tell(t.socket.sent[1].id, { resume: 'five', recovered: false });
  assert.equal(t.events('gap').length, 2, 'an answer comes once');
});

test('nothing is sent twice by a session that is resumed', async () => {
  const t = resumable();
  const written = t.client.send(YOU, 'written');
  t.socket.readyState = 2;
  const queued = t.client.send(YOU, 'queued');
  lose(t);
  assert.deepEqual([await outcome(written), await outcome(queued)], ['ECONN', 'pending']);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  assert.deepEqual(t.socket.sent.map(({ data }) => data.text), ['queued']);
});

test('a session that was taken over is taken back when it is told to', () => {
  const t = resumable();
  t.socket.receive('r1');
  t.socket.die(4001, 'taken over by another connection');
  assert.equal(t.client.state, 'closed');
  t.clock.advance(1e7);
  assert.equal(t.sockets.length, 1);
  assert.equal(t.client.token, 'one');
  t.client.connect();
  assert.equal(t.socket.url, `${URL_}?resume=one&last=r1`);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  assert.equal(t.events('open').at(-1).resumed, true);
});

test('a saved token resumes in another client', () => {
  const first = resumable();
  first.socket.receive('r1');
  const saved = first.events('session').at(-1);
  assert.deepEqual(saved, { token: 'one', last: 'r1' });
  const t = setUp(saved);
  assert.deepEqual([t.client.token, t.client.last], ['one', 'r1']);
  t.client.connect();
  assert.equal(t.socket.url, `${URL_}?resume=one&last=r1`);
  t.socket.greet(ME, 'n2', { resume: 'two', recovered: true });
  assert.deepEqual(t.events('open'), [{ clientId: ME, node: 'n2', resumed: true, recovered: true }]);
  t.socket.receive('r1');
  t.socket.receive('r2');
  assert.deepEqual(t.events('message').map(({ id }) => id), ['r2']);
});

test('a saved token that has expired is a gap', () => {
  const t = setUp({ token: 'old' });
  t.client.connect();
  t.socket.shake();
  t.socket.say({ kind: 'error', id: 'fresh', data: { code: 'ERESUME', description: 'the token has expired' } });
  t.socket.greet(ME, 'n1', { resume: 'new' });
  assert.deepEqual(t.events('gap').map(({ reason }) => reason), ['expired']);
  assert.deepEqual(t.events('session'), [{ token: 'new', last: null }]);
});

test('nothing that was saved is as good as no option', () => {
  const t = setUp({ token: null, last: 'r1' });
  t.client.connect();
  assert.equal(t.socket.url, URL_);
  t.socket.greet(ME, 'n1', { resume: 'one' });
  assert.deepEqual(t.events('gap'), []);
  assert.deepEqual(t.events('session'), [{ token: 'one', last: null }]);
});

test('the session is told when it changes, after the message that changed it', () => {
  const t = resumable();
  const from = t.log.length;
  t.socket.receive('r1');
  t.socket.receive('r1');
  assert.deepEqual(t.log.slice(from).map(([type]) => type), ['message', 'session']);
});

test('a message whose listener closes the client was handled', () => {
  const t = resumable();
  t.client.addEventListener('message', () => t.client.close());
  t.socket.receive('r1');
  assert.deepEqual(t.events('session').at(-1), { token: 'one', last: 'r1' });
  assert.deepEqual(t.socket.sent, []);
});

test('close in a listener of gap or session holds', () => {
  for (const type of ['gap', 'session']) {
    const t = resumable();
    t.client.addEventListener(type, () => t.client.close());
    lose(t);
    t.socket.greet(ME, 'n2', { resume: 'two', recovered: false });
    assert.equal(t.client.state, 'closed', type);
    t.clock.advance(1e7);
    assert.equal(t.clock.size, 0, type);
    assert.equal(t.sockets.length, 2, type);
  }
});

test('resume: false is as it was', () => {
  const t = resumable({ resume: false, token: 'saved', last: 'r0' });
  assert.equal(t.sockets[0].url, URL_);
  assert.equal(t.client.token, null);
  assert.equal(t.clock.size, 0, 'no token, no refresh');
  t.socket.receive('r1');
  lose(t);
  assert.equal(t.socket.url, URL_);
  t.socket.greet(YOU, 'n2', { resume: 'two' });
  assert.deepEqual(t.events('open').at(-1), { clientId: YOU, node: 'n2', resumed: false, recovered: false });
  assert.deepEqual([...t.events('gap'), ...t.events('session')], []);
  t.socket.tell('fresh', { resume: 'three', recovered: false }, YOU);
  assert.deepEqual(t.events('gap').map(({ reason }) => reason), ['relay'], 'a gap in this very session is still told');
});

test('the URL keeps its parameters as they are, and the token is encoded', () => {
  const t = resumable({ url: 'wss://relay.test/v1/texto?room=a%20b&flag' }, 'a+b&c=d/#e');
  t.socket.receive('r&1');
  lose(t);
  assert.equal(t.socket.url, 'wss://relay.test/v1/texto?room=a%20b&flag&resume=a%2Bb%26c%3Dd%2F%23e&last=r%261');
  assert.equal(new URL(t.socket.url).searchParams.get('resume'), 'a+b&c=d/#e');
});

test('a relay that refuses the handshake is asked why without the token', async () => {
  const asked = [];
  const t = resumable({
    url: 'wss://relay.test/v1/texto?a=b',
    fetch: async (url) => { asked.push(url); return { status: 503, headers: new Headers() }; },
  }, 'secret');
  lose(t);
  assert.match(t.socket.url, /resume=secret/);
  t.socket.die();
  assert.deepEqual(asked, ['https://relay.test/v1/texto?a=b']);
});
