/** What a browser remembers of notifications, in one tab and several. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Notebook, about } from '../app/notebook.js';
import { compareIds } from '../pull.js';

/** Where browsers keep things. */
function makeShelf() {
  const kept = new Map();
  return { kept, getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
}

/** A tab of a user's. */
function tab(shelf, user = 1) {
  const notebook = new Notebook(shelf, compareIds);
  notebook.open(user);
  return notebook;
}

const wrote = (n, name = 'yusuf') => ({ id: `${n}-0`, type: 'private', name, time: n });
const inGroup = (n, name = 'choir', type = 'group') => ({ id: `${n}-0`, type, name, time: n });
const YUSUF = about.person('yusuf');
const CHOIR = about.group('choir');

test('messages count until they are read, by whom they are from', () => {
  const book = tab(makeShelf());
  for (const note of [wrote(1), wrote(2), inGroup(3), inGroup(4, 'choir', 'grown'), wrote(5, 'choir')]) book.add(note);
  assert.deepEqual([book.unread(YUSUF), book.unread(CHOIR), book.unread(about.person('choir')), book.sum], [2, 1, 1, 4]);
  assert.deepEqual(book.writers, ['choir', 'yusuf']);
  assert.deepEqual([book.lastTime(YUSUF), book.lastTime(CHOIR), book.lastTime('p nobody')], [2, 4, 0]);
  book.markRead(YUSUF);
  assert.deepEqual([book.unread(YUSUF), book.sum], [0, 2]);
  book.add(wrote(6));
  assert.equal(book.unread(YUSUF), 1);
});

test('what comes twice counts once, and all stands in order', () => {
  const book = tab(makeShelf());
  for (const n of [10, 9, 10, 100]) book.add(wrote(n));
  book.add({ id: '10-0', type: 'gap', name: '', time: 10 });
  assert.deepEqual(book.notes.map(({ id, type }) => `${id} ${type}`), ['9-0 private', '10-0 private', '10-0 gap', '100-0 private']);
  assert.equal(book.sum, 3);
});

test('the next page goes on', () => {
  const shelf = makeShelf();
  const book = tab(shelf);
  book.add(wrote(1));
  book.add(wrote(2));
  book.markRead(YUSUF);
  book.add(wrote(3));
  book.moveTo('3-0');
  const next = tab(shelf);
  assert.deepEqual([next.place, next.unread(YUSUF), next.notes.length], ['3-0', 1, 3]);
});

test('two tabs that get the same come to the same, whoever is first', () => {
  const shelf = makeShelf();
  const [one, two] = [tab(shelf), tab(shelf)];
  one.add(wrote(1));
  two.reload();
  two.add(wrote(1));
  one.moveTo('1-0');
  two.add(wrote(2));
  two.markRead(YUSUF);
  one.reload();
  assert.deepEqual([one.sum, two.sum], [0, 0]);
  one.add(wrote(2));
  assert.deepEqual([one.sum, one.notes.length], [0, 2]);
  one.moveTo('2-0');
  two.reload();
  assert.equal(two.place, '2-0');
});

test('nobody sees what was another user\'s', () => {
  const shelf = makeShelf();
  tab(shelf, 1).add(wrote(1));
  const other = tab(shelf, 2);
  assert.deepEqual([other.notes.length, other.place], [0, null]);
  const book = tab(shelf, 1);
  other.add(wrote(9));
  book.reload();
  assert.deepEqual(book.notes.map(({ id }) => id), ['1-0']);
});

test('who signs out leaves nothing', () => {
  const shelf = makeShelf();
  const book = tab(shelf);
  book.add(wrote(1));
  book.forget();
  book.add(wrote(2));
  assert.equal(shelf.kept.size, 0);
});

test('no more is remembered than fits', () => {
  const book = tab(makeShelf());
  for (let n = 1; n <= 201; n++) book.add(wrote(n));
  assert.deepEqual([book.notes.length, book.notes[0].id], [200, '2-0']);
});

for (const kept of [
  'not JSON', '{}', '{"user": 1}', '{"user": 1, "place": "x", "notes": [], "read": []}', '{"user": 1, "place": null, "notes": [{"id": 1}], "read": []}',
  '{"user": 1, "place": null, "notes": [], "read": [["p x", "soon"]]}', '[]', 'null', '7',
]) {
  test(`what is kept may be anything: ${kept}`, () => {
    const shelf = makeShelf();
    shelf.setItem('parley.people', kept);
    const book = tab(shelf);
    assert.deepEqual([book.notes.length, book.place, book.sum], [0, null, 0]);
    book.add(wrote(1));
    assert.equal(tab(shelf).sum, 1);
  });
}

test('a browser that keeps nothing still counts', () => {
  const full = { getItem: () => null, setItem: () => { throw new Error('full'); }, removeItem: () => { throw new Error('closed'); } };
  for (const shelf of [null, full]) {
    const book = tab(shelf);
    book.add(wrote(1));
    assert.equal(book.sum, 1);
    book.forget();
    assert.equal(book.sum, 0);
  }
});
