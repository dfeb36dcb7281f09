/** The package as its users get it: what is in it, and that its types hold. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = join(root, 'node_modules', '.bin', 'tsc');

const CONSUMER = `
import { ParleyError, TextoClient, type TextoState } from 'parley-client';
import { ChatClient, ChatError, type ChatMessage, type ChatRoom } from 'parley-client/chat';
import { PullClient, PullError, type PullMessage, type PullState } from 'parley-client/pull';
import { RoomClient, RoomError, RoomsApi, type RoomInfo, type RoomMember, type RoomSession } from 'parley-client/relayroom';

const client = new TextoClient({ url: 'wss://relay.example/v1/texto', queueLimit: 10 });
client.addEventListener('message', ({ detail }) => {
  const sender: string = detail.senderId;
  client.send(sender, detail.text).catch((error: unknown) => {
    if (error instanceof ParleyError) console.log(error.code.toUpperCase());
  });
});
client.addEventListener('gap', ({ detail }) => {
  const why: 'expired' | 'away' | 'relay' = detail.reason;
  console.log(why, detail.description);
});
client.addEventListener('session', ({ detail }) => {
  const later = new TextoClient({ resume: true, ...detail });
  const token: string | null = later.token;
  console.log(token, later.last);
});
client.addEventListener('state', ({ detail }) => {
  const state: TextoState = detail.state;
  // @ts-expect-error There is no such state.
  if (state === 'broken') client.close();
});
// @ts-expect-error There is no such event.
client.addEventListener('massage', ({ detail }) => console.log(detail));
// @ts-expect-error A text is a string.
client.send('11111111-1111-4111-8111-111111111111', 7);
const id: string | null = client.clientId;
console.log(id);

const chat = new ChatClient({ url: 'wss://relay.example/api/ws', roomLimit: 500 });
chat.addEventListener('message', ({ detail }) => {
  const at: number = detail.message.timestamp;
  const room: ChatRoom | undefined = chat.rooms.get(detail.roomId);
  console.log(at, room?.messages.length, room?.online.map(({ username }) => username));
  // @ts-expect-error Messages come from the relay only.
  room?.messages.push(detail.message);
});
chat.addEventListener('close', ({ detail }) => {
  if (detail.signedOut) chat.logIn({ email: 'm@example.com', password: 'correct horse' }).then(() => chat.connect());
});
chat.sendMessages('7', ['a', 'b']).then((messages: ChatMessage[]) => console.log(messages[0].id), (error: unknown) => {
  if (error instanceof ChatError) console.log(error.code, error.retryAfter);
});
// @ts-expect-error There is no such event.
chat.addEventListener('massage', ({ detail }) => console.log(detail));

const room = new RoomClient({ url: 'wss://relay.example/v1/websocket', rejoinTimeout: 30_000 });
room.addEventListener('message', ({ detail }) => {
  const how: 'broadcast' | 'target' | 'host' = detail.type;
  const data: Uint8Array = detail.data;
  if (room.isHost && how === 'host') room.broadcast(data);
});
room.addEventListener('closed', ({ detail }) => {
  // @ts-expect-error There is no such end.
  if (detail.end === 'bored') room.leave();
  const session: RoomSession | null = room.session;
  if (detail.end === 'kicked' && session) room.join(session);
});
const api = new RoomsApi({ url: 'https://relay.example/v1/api/', token: 'secret' });
api.create(4).then(({ id, secret }: RoomInfo) => room.join({ roomId: id, secret })).then(({ clientId }) => console.log(clientId));
room.list().then((members: RoomMember[]) => members.map(({ id, host }) => host && id), (error: unknown) => {
  if (error instanceof RoomError) console.log(error.code, error.status);
});
// @ts-expect-error An id is a number.
room.kick('7');

const pull = new PullClient({ url: 'https://relay.example', token: 'secret', place: null });
pull.addEventListener('private', async ({ detail }) => {
  const { id } = await pull.userByName(detail.from);
  const { messages }: { messages: PullMessage[] } = await pull.pull(id);
  console.log(messages.map(({ message }) => message.toUpperCase()), detail.time.toFixed());
});
pull.addEventListener('place', ({ detail }) => console.log(detail.place.length));
pull.addEventListener('close', ({ detail }) => {
  const state: PullState = pull.state;
  if (detail.signedOut) console.log(state);
});
// @ts-expect-error There is no such event.
pull.addEventListener('public', ({ detail }) => console.log(detail));
pull.createGroup({ members: [2] }).then(({ name, members }) => pull.sendToGroup(name, String(members.length)), (error: unknown) => {
  if (error instanceof PullError) console.log(error.code, error.status, error.retryAfter);
});
// @ts-expect-error An id is a number.
pull.send('7', 'Hello');
`;

test('the package holds the SDK, its types and its page, and works in TypeScript', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'parley-client-'));
  t.after(() => rmSync(directory, { recursive: true }));
  execFileSync('npm', ['pack', '--silent', '--pack-destination', directory], { cwd: root, stdio: 'pipe' });
  const [archive] = readdirSync(directory);
  const target = join(directory, 'node_modules', 'parley-client');
  mkdirSync(target, { recursive: true });
  execFileSync('tar', ['-xzf', join(directory, archive), '-C', target, '--strip-components=1']);
  const modules = [
    'account', 'asynctarget', 'chat', 'chatlink', 'comeback', 'connection', 'etags', 'link', 'parley', 'pull', 'pullapi', 'pullerror', 'pullnews', 'relayapi', 'relaylink', 'relayroom', 'relaywire', 'room',
    'roomerror', 'rooms', 'session', 'traffic',
  ];
  assert.deepEqual(readdirSync(target).sort(), ['LICENSE', 'README.md', 'package.json', 'types', ...modules.map((name) => `${name}.js`)].sort());
  assert.deepEqual(readdirSync(join(target, 'types')).sort(), modules.map((name) => `${name}.d.ts`));

  assert.deepEqual(readFileSync(join(target, 'LICENSE')), readFileSync(join(root, '..', 'LICENSE')), "the project's licence");

  writeFileSync(join(directory, 'package.json'), '{"type": "module"}');
  writeFileSync(join(directory, 'consumer.ts'), CONSUMER);
  const options = ['--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,dom', '--types', ''];
  for (const module of [['nodenext', 'nodenext'], ['esnext', 'bundler']]) {
    const checked = () => execFileSync(process.execPath, [
      tsc, ...options, '--module', module[0], '--moduleResolution', module[1], 'consumer.ts',
    ], { cwd: directory, encoding: 'utf8' });
    assert.equal(checked(), '');
  }

  const imported = execFileSync(process.execPath, [
    '--input-type=module', '--eval', "for (const name of ['parley-client', 'parley-client/chat', 'parley-client/relayroom', 'parley-client/pull']) console.log(Object.keys(await import(name)).join(' '))",
  ], { cwd: directory, encoding: 'utf8' });
  assert.equal(imported.trim(), [
    'ParleyError TextoClient isAddress', 'ChatClient ChatError FRAME_LIMIT ParleyError TYPING_INTERVAL compareIds', 'ParleyError RoomClient RoomError RoomsApi',
    'ParleyError PullApi PullClient PullError compareIds',
  ].join('\n'));
});
