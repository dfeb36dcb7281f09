/** The relay rooms of the small fleet, shared by its nodes, as far as the SDK and the sample app see them. */

import { randomInt } from 'node:crypto';
import {
  Client, Failure, Flag, JoinRequest, Member, MemberList, Payload, RejoinRequest, Relay, RelayType, Subject,
} from '../relaywire.js';

/** The longest data that is relayed, in bytes, and the most clients of all rooms. */
const DATA_LIMIT = 65_536;
const MOST_CLIENTS = 100;

const LAST_ID = 2 ** 31 - 1;
const NOTHING = new Uint8Array();

/** A request that is refused. */
class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

class Room {
  /** Of all who were ever here, by id. */
  secrets = new Map();
  /** Who is here: sockets by id; null is a client whose node is dead. */
  seats = new Map();
  /** Who is host; -1: nobody. */
  host = -1;
  /** Who is to be host next, while a grant is under way; -1: nobody. */
  next = -1;
  /** What the next host is to be told. */
  held = [];

  constructor(id, maxClients, grantTime) {
    this.id = id;
    this.grantTime = grantTime;
    this.secret = randomInt(1, LAST_ID);
    this.maxClients = maxClients;
  }

  get info() {
    return { id: this.id, secret: this.secret, max_clients: this.maxClients, current_clients: this.seats.size, room_status: 'RUNNING' };
  }

  sit(id, secret, socket) {
    if (this.seats.has(id)) throw new Refusal(400, 'the client is connected; if its node has died, its place is free within 15 seconds');
    if (this.seats.size === this.maxClients) throw new Refusal(400, 'the room is full');
    this.secrets.set(id, secret);
    this.seats.set(id, socket);
    say(socket, Flag.connected, Client.encode({ id, secret }));
    if (this.next >= 0) {
      say(socket, Flag.beginHostMigrate);
    } else if (this.host < 0) {
      this.host = id;
      say(socket, Flag.assignHost);
    }
    this.tellHost(Flag.clientConnect, () => Member.encode({ id, host: id === this.host }));
  }

  leave(id) {
    this.seats.delete(id);
    if (this.seats.size === 0) this.next = -1;
    if (this.host === id) {
      this.host = -1;
      if (this.seats.size > 0) this.move(Math.min(...this.seats.keys()));
    }
    this.tellLeft(id);
  }

  tellLeft(id) {
    this.tellHost(Flag.clientDisconnect, () => Member.encode({ id, host: false }));
  }

  /** Tells the host, or the next one. */
  tellHost(flag, data) {
    this.onceThereIsAHost(() => say(this.seats.get(this.host), flag, data()));
  }

  onceThereIsAHost(tell) {
    if (this.next >= 0) this.held.push(tell);
    else tell();
  }

  /** The host has gone: another one is it at once. */
  move(id) {
    for (const socket of this.seats.values()) say(socket, Flag.beginHostMigrate);
    this.assign(id);
  }

  /** The host makes another one host, in two steps. */
  grant(id) {
    this.host = -1;
    this.next = id;
    for (const socket of this.seats.values()) say(socket, Flag.beginHostMigrate);
    setTimeout(() => {
      if (this.next >= 0) this.assign(this.seats.has(id) ? id : Math.min(...this.seats.keys()));
    }, this.grantTime);
  }

  assign(id) {
    const who = Subject.encode({ id });
    this.host = id;
    this.next = -1;
    say(this.seats.get(id), Flag.assignHost, who);
    for (const socket of this.seats.values()) say(socket, Flag.finishHostMigrate, who);
    for (const tell of this.held.splice(0)) tell();
  }
}

export class RelayRooms {
  /** By id. */
  rooms = new Map();
  /** How long the clients of a node that was killed count as connected, in ms. */
  deathTime = 300;
  /** How long the host is on the move that has made another one host, in ms. */
  grantTime = 30;
  /** When set, requests over HTTP have to bear it. */
  token = '';
  /** When set, nothing works: as if Redis were away. */
  away = false;

  /** Answers a request for /v1/api/...; false when there is no such path. */
  serve(request, response, pathname) {
    if (!pathname.startsWith('/v1/api/')) return false;
    let body = '';
    request.setEncoding('utf8').on('data', (part) => { body += part; }).on('end', () => {
      let answer;
      try {
        if (this.token && request.headers.authorization !== `Bearer ${this.token}`) throw new Refusal(401, 'rooms are managed with a token');
        if (this.away) throw new Refusal(503, 'that could not be done right now');
        answer = { code: 200, data: this.#do(`${request.method} ${pathname}`, body) };
      } catch (error) {
        answer = { code: error.code ?? 400, message: error.message };
      }
      response.writeHead(answer.code, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
    });
    return true;
  }

  #do(what, body) {
    const all = [...this.rooms.values()];
    const committed = all.reduce((sum, { maxClients }) => sum + Math.ceil(maxClients / 5) * 5, 0);
    if (what === 'GET /v1/api/summary') {
      const current = all.reduce((sum, { seats }) => sum + seats.size, 0);
      return { number_of_rooms: all.length, max_clients: MOST_CLIENTS, current_clients: current, committed_clients: committed };
    }
    if (what === 'GET /v1/api/rooms') return all.map(({ info }) => info);
    if (what === 'POST /v1/api/rooms') {
      const { max_clients: most } = JSON.parse(body);
      if (!Number.isInteger(most) || most < 1) throw new Refusal(400, '"max_clients" is less than 1');
      if (committed + Math.ceil(most / 5) * 5 > MOST_CLIENTS) throw new Refusal(400, 'all rooms together may not be for so many clients');
      const room = new Room(randomInt(1, LAST_ID), most, this.grantTime);
      this.rooms.set(room.id, room);
      return room.info;
    }
    const [, method, id] = /^(GET|DELETE) \/v1\/api\/rooms\/(\d+)$/.exec(what) ?? [];
    const room = this.rooms.get(Number(id));
    if (!room) throw new Refusal(404, 'there is no such room');
    if (method === 'GET') return room.info;
    this.rooms.delete(room.id);
    for (const socket of room.seats.values()) socket?.close(4003, 'room closed');
    return undefined;
  }

  /** A connection to /v1/websocket, of a node that tells when it was killed. */
  greet(socket, node) {
    const seat = { room: null, id: -1 };
    socket.on('message', (raw, isBinary) => {
      try {
        if (!isBinary) throw new Refusal(400, 'send binary frames');
        if (this.away) throw new Refusal(500, 'that could not be done right now: try again');
        const { flag, data } = Payload.decode(raw);
        this.#hear(socket, seat, flag, data);
      } catch (error) {
        say(socket, Flag.error, Failure.encode({ code: error.code ?? 400, message: error.message }));
      }
    });
    socket.on('close', () => {
      const { room, id } = seat;
      if (room?.seats.get(id) !== socket) return;
      if (!node.killed) {
        room.leave(id);
        return;
      }
      room.seats.set(id, null);
      setTimeout(() => room.leave(id), this.deathTime);
    });
  }

  #hear(socket, seat, flag, data) {
    const { room, id } = seat;
    if (flag === Flag.connect || flag === Flag.reconnect) {
      if (room) throw new Refusal(400, 'in a room already');
      const { roomId, roomSecret, clientId, clientSecret } = (flag === Flag.connect ? JoinRequest : RejoinRequest).decode(data);
      const wanted = this.rooms.get(roomId);
      if (wanted?.secret !== roomSecret) throw new Refusal(400, 'wrong room id or secret');
      if (flag === Flag.reconnect && wanted.secrets.get(clientId) !== clientSecret) throw new Refusal(400, 'wrong client id or secret');
      Object.assign(seat, { room: wanted, id: clientId ?? wanted.secrets.size });
      try {
        wanted.sit(seat.id, clientSecret ?? randomInt(1, LAST_ID), socket);
      } catch (error) {
        seat.room = null;
        throw error;
      }
      return;
    }
    if (!room) throw new Refusal(400, 'not in a room: connect first');
    if (flag === Flag.list) {
      const list = [...room.seats.keys()].sort((a, b) => a - b).map((member) => ({ id: member, host: member === room.host }));
      say(socket, Flag.listed, MemberList.encode({ list }));
    } else if (flag === Flag.relayMessage) {
      this.#relay(seat, data);
    } else if (flag === Flag.kick || flag === Flag.grantHost) {
      const { id: target } = Subject.decode(data);
      if (room.host !== id) throw new Refusal(400, 'only the host may do that');
      if (target === id || !room.seats.has(target)) throw new Refusal(400, 'unknown target');
      if (flag === Flag.grantHost) {
        room.grant(target);
        return;
      }
      const kicked = room.seats.get(target);
      room.seats.delete(target);
      kicked?.close(4002, 'kicked');
      room.tellLeft(target);
      say(socket, Flag.kicked, Subject.encode({ id: target }));
    } else {
      throw new Refusal(400, 'unknown flag of a request');
    }
  }

  #relay({ room, id }, data) {
    const { type, target, data: inner } = Relay.decode(data);
    if (inner.length > DATA_LIMIT) throw new Refusal(413, 'the data is too long');
    if ((type === RelayType.host) === (room.host === id)) throw new Refusal(400, 'only the host may do that');
    if (type === RelayType.host) {
      room.onceThereIsAHost(() => {
        if (room.host !== id) say(room.seats.get(room.host), Flag.relayed, data);
        else say(room.seats.get(id), Flag.error, Failure.encode({ code: 400, message: 'the host cannot send to itself' }));
      });
      return;
    }
    const to = type === RelayType.broadcast ? [...room.seats.keys()].filter((other) => other !== id)
      : [target];
    if (type === RelayType.target && !room.seats.has(target)) throw new Refusal(400, 'unknown target');
    for (const other of to) say(room.seats.get(other), Flag.relayed, data);
  }
}

function say(socket, flag, data = NOTHING) {
  if (socket?.readyState === 1) socket.send(Payload.encode({ flag, data }));
}
