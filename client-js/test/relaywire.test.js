/** The messages of relay rooms: bytes worked out by hand, and what is none. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Client, Failure, Flag, JoinRequest, Member, MemberList, Payload, RejoinRequest, Relay, Subject, WireError,
} from '../relaywire.js';

/** Bytes from hexadecimal digits; spaces are for the reader. */
const bytes = (hex) => Uint8Array.from(hex.replaceAll(' ', '').match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
const hex = (data) => Buffer.from(data).toString('hex').replace(/(..)(?=.)/g, '$1 ');

/** An int32 of -1 and the least one: ten bytes, since the sign fills 64 bits. */
const MINUS_1 = 'ff ff ff ff ff ff ff ff ff 01';
const LEAST = '80 80 80 80 f8 ff ff ff ff 01';

for (const [what, type, value, wanted] of [
  ['a list asked for', Payload, { flag: Flag.list, data: bytes('') }, '08 03'],
  ['a relay flag is 0, and left out', Payload, { flag: Flag.relayMessage, data: bytes('0a') }, '12 01 0a'],
  ['a flag and its data', Payload, { flag: Flag.connect, data: bytes('08 01') }, '08 01 12 02 08 01'],
  ['an error', Failure, { code: 400, message: 'né' }, '08 90 03 12 03 6e c3 a9'],
  ['a room and its secret', JoinRequest, { roomId: 1, roomSecret: 300 }, '08 01 10 ac 02'],
  ['the greatest id', JoinRequest, { roomId: 2_147_483_647, roomSecret: 0 }, '08 ff ff ff ff 07'],
  ['numbers below 0', JoinRequest, { roomId: -1, roomSecret: -2_147_483_648 }, `08 ${MINUS_1} 10 ${LEAST}`],
  ['a client that comes back', RejoinRequest, { roomId: 1, roomSecret: 2, clientId: 127, clientSecret: 128 }, '08 01 10 02 18 7f 20 80 01'],
  ['the first client', Client, { id: 0, secret: 7 }, '10 07'],
  ['nothing but zeros is nothing', Client, { id: 0, secret: 0 }, ''],
  ['a host', Member, { id: 3, host: true }, '08 03 10 01'],
  ['a list of two, the first of whom is 0', MemberList, { list: [{ id: 0, host: false }, { id: 5, host: true }] }, '0a 00 0a 04 08 05 10 01'],
  ['an empty list', MemberList, { list: [] }, ''],
  ['whom a kick is about', Subject, { id: 16_384 }, '08 80 80 01'],
  ['a broadcast', Relay, { type: 0, target: undefined, data: bytes('ff 00') }, '1a 02 ff 00'],
  ['a target that is 0 is there', Relay, { type: 1, target: 0, data: bytes('61') }, '08 01 10 00 1a 01 61'],
  ['a target below 0', Relay, { type: 1, target: -1, data: bytes('') }, `08 01 10 ${MINUS_1}`],
]) {
  test(`${what}: written and read`, () => {
    assert.equal(hex(type.encode(value)), wanted);
    assert.deepEqual(type.decode(bytes(wanted)), value);
  });
}

test('data longer than 127 bytes has a longer length', () => {
  const data = new Uint8Array(300).fill(7);
  const encoded = Relay.encode({ type: 2, target: undefined, data });
  assert.equal(hex(encoded.subarray(0, 5)), '08 02 1a ac 02');
  assert.deepEqual(Relay.decode(encoded).data, data);
});

for (const [what, unknown] of [
  ['a varint', '78 96 01'],
  ['eight bytes', '79 01 02 03 04 05 06 07 08'],
  ['a text', '7a 02 68 69'],
  ['four bytes', '7d 01 02 03 04'],
  ['a group, with a group and a text in it', '7b 08 01 13 14 1a 01 61 7c'],
  ['the highest number', 'f8 ff ff ff 0f 01'],
  ['a field that is known, of another wire type', '15 01 02 03 04 0a 01 61'],
]) {
  test(`an unknown field is skipped: ${what}`, () => {
    assert.deepEqual(Client.decode(bytes(`08 05 ${unknown} 10 06`)), { id: 5, secret: 6 });
    assert.deepEqual(Client.decode(bytes(unknown)), { id: 0, secret: 0 });
  });
}

test('of a field that comes twice the last one counts, and of a long number the low 32 bits', () => {
  assert.equal(Subject.decode(bytes('08 01 08 02')).id, 2);
  assert.equal(Subject.decode(bytes('08 85 80 80 80 10')).id, 5, '2^32 + 5');
  assert.equal(Subject.decode(bytes('08 ff ff ff ff 0f')).id, -1, '2^32 - 1');
  assert.equal(Member.decode(bytes('10 80 80 80 80 10')).host, true, '2^32 is not false');
  assert.equal(Member.decode(bytes('10 80 00')).host, false, 'a zero in two bytes is one');
});

for (const [what, type, malformed] of [
  ['a tag without a value', Client, '08'],
  ['a varint that does not end', Client, '08 80'],
  ['a varint of eleven bytes', Client, '08 80 80 80 80 80 80 80 80 80 80 01'],
  ['a varint of more than 64 bits', Client, '08 ff ff ff ff ff ff ff ff ff 02'],
  ['field 0', Client, '00 01'],
  ['a field number beyond the last', Client, '80 80 80 80 10 01'],
  ['data shorter than its length', Payload, '12 03 01 02'],
  ['a length of 2^31', Payload, '12 80 80 80 80 08'],
  ['a length of 2^32', Payload, '12 80 80 80 80 10'],
  ['four bytes of which three are there', Client, '7d 01 02 03'],
  ['the end of a group that did not begin', Client, '0c'],
  ['a group that ends as another', Client, '7b 84 01'],
  ['a group without an end', Client, '7b 08 01'],
  ['wire type 6', Client, '0e'],
  ['wire type 7 in a group', Client, '7b 0f 7c'],
  ['a text that is not UTF-8', Failure, '12 02 c3 28'],
  ['a member that is malformed', MemberList, '0a 01 08'],
]) {
  test(`malformed: ${what}`, () => assert.throws(() => type.decode(bytes(malformed)), WireError));
}

test('groups in groups are followed a hundred deep', () => {
  const nested = (depth) => bytes('7b '.repeat(depth) + '7c '.repeat(depth));
  assert.deepEqual(Client.decode(nested(100)), { id: 0, secret: 0 });
  assert.throws(() => Client.decode(nested(101)), WireError);
});

test('what was read does not change with the bytes that it was read from', () => {
  const frame = Payload.encode({ flag: Flag.relayed, data: bytes('01 02') });
  const { data } = Payload.decode(frame);
  frame.fill(0);
  assert.equal(hex(data), '01 02');
  const buffer = Buffer.from(Payload.encode({ flag: 0, data: bytes('03') })); // its slice would be no copy
  const inside = Payload.decode(buffer).data;
  buffer.fill(0);
  assert.equal(hex(inside), '03');
});

test('whatever bytes there are, they are a message or a WireError', () => {
  let seed = 1;
  const random = (below) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  for (let i = 0; i < 20_000; i++) {
    const garbage = Uint8Array.from({ length: random(24) }, () => random(256));
    for (const type of [Payload, Failure, MemberList, Relay]) {
      try {
        const value = type.decode(garbage);
        assert.deepEqual(type.decode(type.encode(value)), value);
      } catch (error) {
        assert.ok(error instanceof WireError, `${hex(garbage)}: ${error.stack}`);
      }
    }
  }
});
