/** A client of relay rooms on fakes, with a relay whose every frame is scripted. */

import { RoomClient } from '../relayroom.js';
import { Client, Failure, Flag, Member, MemberList, Payload, Relay, Subject } from '../relaywire.js';
import { FakeClock, FakePage, FakeSocket } from './fakes.js';

/** The room of the tests. */
export const ROOM = { roomId: 7, secret: 77 };

const utf8 = new TextEncoder();

/** Names of flags, as tests name them. */
const names = Object.fromEntries(Object.entries(Flag).map(([name, flag]) => [flag, name]));

/** A socket that speaks the protocol of relay rooms. */
class RoomSocket extends FakeSocket {
  send(data) {
    if (this.readyState !== 1) throw new Error(`send in readyState ${this.readyState}`);
    this.sent.push(data);
  }

  /** A frame comes. */
  frame(flag, data = new Uint8Array()) {
    this.say(Payload.encode({ flag, data }).buffer);
  }

  /** The client has its place. */
  seat(id = 1, secret = 1000 + id) {
    this.frame(Flag.connected, Client.encode({ id, secret }));
  }

  /** This client becomes the first host of the room. */
  assign() {
    this.frame(Flag.assignHost);
  }

  /** The host moves; the client is told so if it is it. */
  migrate(hostId, me = false) {
    this.frame(Flag.beginHostMigrate);
    if (me) this.frame(Flag.assignHost, Subject.encode({ id: hostId }));
    this.frame(Flag.finishHostMigrate, Subject.encode({ id: hostId }));
  }

  complain(code, message) {
    this.frame(Flag.error, Failure.encode({ code, message }));
  }

  members(list) {
    this.frame(Flag.listed, MemberList.encode({ list }));
  }

  came(id, host = false) {
    this.frame(Flag.clientConnect, Member.encode({ id, host }));
  }

  left(id) {
    this.frame(Flag.clientDisconnect, Member.encode({ id, host: false }));
  }

  kicked(id) {
    this.left(id);
    this.frame(Flag.kicked, Subject.encode({ id }));
  }

  relay(type, text) {
    this.frame(Flag.relayed, Relay.encode({ type, target: undefined, data: utf8.encode(text) }));
  }

  /** What the client wrote, as [name of the flag, bytes]; it is forgotten. */
  take() {
    return this.sent.splice(0).map((frame) => {
      const { flag, data } = Payload.decode(frame);
      return [names[flag], data];
    });
  }

  /** The names of what the client wrote; it is forgotten. */
  takeNames() {
    return this.take().map(([name]) => name);
  }
}

export const EVENTS = [
  'connect', 'host', 'clientconnect', 'clientdisconnect', 'migratebegin', 'migratefinish', 'message', 'kicked', 'closed',
  'error', 'reconnecting', 'state',
];

/**
 * A client on fakes. Its jitter is half of what it may be, and its events are in
 * `log`, as [type, detail].
 */
export function setUp(options = {}) {
  const clock = new FakeClock();
  const page = new FakePage();
  const sockets = [];
  const log = [];
  const client = new RoomClient({
    url: 'ws://relay.test/v1/websocket',
    WebSocket: class extends RoomSocket {
      constructor(url) {
        super(url);
        sockets.push(this);
      }
    },
    fetch: null,
    random: () => 0.5,
    clock,
    page,
    ...options,
  });
  for (const type of EVENTS) client.addEventListener(type, ({ detail }) => log.push([type, detail]));
  return {
    client,
    clock,
    page,
    sockets,
    log,
    /** The latest connection. */
    get socket() {
      return sockets.at(-1);
    },
    /** The details of all events of one type. */
    events: (type) => log.filter(([t]) => t === type).map(([, detail]) => detail),
    /** What happened since it was asked last, without changes of the state; as [type, detail]. */
    news: () => log.splice(0).filter(([type]) => type !== 'state'),
    /** Puts the client into the room. */
    enter(id = 1) {
      const joined = client.join(ROOM);
      joined.catch(() => {});
      sockets.at(-1).shake();
      sockets.at(-1).take();
      sockets.at(-1).seat(id);
      return sockets.at(-1);
    },
    /** The same, as host. */
    lead(id = 0) {
      const socket = this.enter(id);
      socket.assign();
      return socket;
    },
    /** The connection is lost, and the next one dialled. */
    lose(code = 1006) {
      sockets.at(-1).die(code);
      clock.advance(log.findLast(([type]) => type === 'reconnecting')[1].delay);
      return sockets.at(-1);
    },
  };
}
