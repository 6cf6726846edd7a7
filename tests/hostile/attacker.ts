// Sends hostile sequences to a served function as fast as it takes them. Many sequences share a connection; behind each
// goes a harmless request whose reply says that the server got through it. Hard about it: the server may hang up at any
// byte, may ask for memory in between, and stops reading while its replies are not read; and where an answer claims to be
// longer than it is, what follows is a part of it, the harmless request too.

import { writeSync } from "node:fs";
import { constants } from "node:os";
import { type FileDescriptor, UnixSocket, waitReadable } from "../../packages/ring3/src/linux/index.ts";
import { Command } from "../../packages/ring3/src/vfio-user/messages.ts";
import { frame } from "./arbitraries.ts";
import type { Bystander } from "./bystander.ts";
import type { DescriptorSupply } from "./descriptor-supply.ts";
import { GUARD_PATTERN, GuardedMemory } from "./guarded-memory.ts";
import type { Random } from "./random.ts";
import {
  type DescriptorKind,
  describe,
  FIRST_MARKER,
  HEADER_BYTES,
  isFramed,
  type Manners,
  type Sequence,
} from "./sequence.ts";

const { EAGAIN, EPIPE, ECONNRESET } = constants.errno;
const MAXIMUM_FRAME = (1 << 20) + 4096;
const GREETING = frame(Command.VERSION, new Uint8Array(4));
const GREETING_WITH_TWIN = frame(
  Command.VERSION,
  Buffer.concat([
    new Uint8Array(4),
    Buffer.from(`${JSON.stringify({ capabilities: { twin_socket: { supported: true }, max_msg_fds: 16 } })}\0`),
  ]),
);
/** Sequences on one connection at most, and of those without an answer. */
const SEQUENCES_PER_CONNECTION = 200;
const WINDOW = 12;
const CONNECTIONS_PER_SCRIBBLE = 3;
const MARKERS = 0xffe;
/** Between harmless requests, where the server may have taken one for a part of something else. */
const ASK_AGAIN_MS = 100;

export interface AttackerOptions {
  readonly path: string;
  readonly random: Random;
  readonly supply: DescriptorSupply;
  readonly bystander: Bystander;
  /** Bound on any answer. */
  readonly patienceMs: number;
  /** Puts other things into the memory that is mapped. */
  readonly scribble: () => void;
}

export interface AttackerCounts {
  sequences: number;
  messages: number;
  connections: number;
  replies: number;
  errors: number;
  commandsFromServer: number;
}

/** One socket, cut into messages. */
class Lane {
  readonly socket: UnixSocket;
  bytes: Buffer = Buffer.alloc(0);
  ended = false;

  constructor(socket: UnixSocket) {
    this.socket = socket;
  }
}

export class Attacker {
  readonly counts: AttackerCounts = {
    sequences: 0,
    messages: 0,
    connections: 0,
    replies: 0,
    errors: 0,
    commandsFromServer: 0,
  };
  /** What went over the connection so far, for reports. */
  readonly history: Sequence[] = [];
  readonly #options: AttackerOptions;
  readonly #into = new Uint8Array(1 << 18);
  #lane: Lane | undefined;
  #twin: Lane | undefined;
  #manners: Manners = "honest";
  #marker = 0;
  #awaited = -1;
  /** The server may cut what we sent into other messages than we did. */
  #blurred = false;
  /** Sequences that were sent, by the marker behind each. */
  readonly #outstanding: { readonly marker: number; readonly sequence: Sequence }[] = [];

  constructor(options: AttackerOptions) {
    this.#options = options;
  }

  /** Sends all of them; each reaches the server as a whole, or ends a connection. */
  run(sequences: readonly Sequence[]): void {
    const todo = sequences.toReversed();
    for (;;) {
      const sequence = todo.pop();
      if (sequence === undefined && this.#outstanding.length === 0) break;
      const alive = sequence === undefined ? this.#settle(0) : this.#one(sequence);
      if (!alive) {
        // The first without an answer ended the connection; those behind it were not heard.
        const [, ...unheard] = this.#outstanding.splice(0);
        for (const { sequence: again } of unheard.toReversed()) todo.push(again);
        this.#disconnect();
      } else if (this.history.length >= SEQUENCES_PER_CONNECTION && this.#outstanding.length === 0) this.#disconnect();
      this.#options.bystander.look();
    }
    this.#disconnect();
    this.counts.sequences += sequences.length;
  }

  #disconnect(): void {
    for (const lane of [this.#lane, this.#twin]) lane?.socket[Symbol.dispose]();
    this.#lane = undefined;
    this.#twin = undefined;
    this.#blurred = false;
    this.history.length = 0;
  }

  /** `false` where the connection is over: the last sequences that are outstanding may not have been heard. */
  #one(sequence: Sequence): boolean {
    const framed = isFramed(sequence);
    const alone = !framed || sequence.greeting !== undefined || sequence.truncates === true;
    // What ends a connection on purpose waits until all before it was heard.
    if (alone && !this.#settle(0)) {
      this.#outstanding.push({ marker: -1, sequence });
      return false;
    }
    if (sequence.greeting !== undefined || this.history.length >= SEQUENCES_PER_CONNECTION) {
      if (!this.#settle(0)) {
        this.#outstanding.push({ marker: -1, sequence });
        return false;
      }
      this.#disconnect();
    }
    const lane = this.#lane ?? this.#connect(sequence.greeting);
    this.history.push(sequence);
    this.#manners = sequence.manners;
    this.#marker = (this.#marker + 1) % MARKERS;
    const marker = FIRST_MARKER + this.#marker;
    this.#outstanding.push({ marker, sequence });
    let alive = this.#sendSteps(lane, sequence, framed);
    if (framed) alive &&= this.#send(lane, markerFrame(marker), []) && this.#settle(alone ? 0 : WINDOW);
    else if (alive && this.#options.random.oneIn(4)) this.#drain(lane, 1);
    if (sequence.truncates === true) this.#options.supply.truncate();
    return alive && !alone;
  }

  #sendSteps(lane: Lane, { steps }: Sequence, framed: boolean): boolean {
    let glued: Uint8Array[] = [];
    const flush = (): boolean => {
      if (glued.length === 0) return true;
      const all = glued.length === 1 ? (glued[0] as Uint8Array) : Buffer.concat(glued);
      glued = [];
      return this.#send(lane, all, []);
    };
    for (const { bytes, fds, cuts = [] } of steps) {
      this.counts.messages++;
      if (fds.length === 0 && cuts.length === 0) {
        glued.push(bytes);
        continue;
      }
      if (!flush()) return false;
      const kinds = framed ? guarded(bytes, fds) : fds.map((kind) => (kind === "guarded" ? "sealed" : kind));
      const descriptors = kinds.map((kind) => this.#options.supply.take(kind, lane.socket.fd));
      let from = 0;
      for (const to of [...cuts, bytes.length]) {
        if (to > from && !this.#send(lane, bytes.subarray(from, to), from === 0 ? descriptors : [])) return false;
        from = to;
      }
    }
    return flush();
  }

  /** A new client: the server must take it, whatever the one before did. */
  #connect(greeting: Uint8Array | undefined): Lane {
    if (this.counts.connections % CONNECTIONS_PER_SCRIBBLE === 0) this.#options.scribble();
    const lane = new Lane(UnixSocket.connect(this.#options.path));
    this.#lane = lane;
    this.counts.connections++;
    if (greeting !== undefined) {
      this.#send(lane, greeting, []);
      return lane;
    }
    this.#awaited = 1;
    this.#send(lane, this.#options.random.oneIn(8) ? GREETING_WITH_TWIN : GREETING, []);
    const until = performance.now() + this.#options.patienceMs;
    while (this.#awaited >= 0) {
      if (!this.#drain(lane, 100)) throw new Error("the server does not take a client that behaves");
      if (performance.now() > until) throw this.#stuck("does not greet");
    }
    return lane;
  }

  /** `false` where the server has hung up. */
  #send(lane: Lane, bytes: Uint8Array, fds: readonly FileDescriptor[]): boolean {
    const until = performance.now() + this.#options.patienceMs;
    for (let at = 0; at < bytes.length; ) {
      const sent = lane.socket.send([at === 0 ? bytes : bytes.subarray(at)], at === 0 ? fds : []);
      if (sent > 0) at += sent;
      else if (sent === -EPIPE || sent === -ECONNRESET) {
        this.#drain(lane, 0);
        return false;
      } else if (sent !== -EAGAIN) throw new Error(`send failed with errno ${-sent}`);
      else {
        const asked = this.counts.commandsFromServer;
        if (!this.#drain(lane, 1)) return false;
        // An answer may lie in the middle of this message now.
        if (this.counts.commandsFromServer > asked) this.#blurred = true;
        if (performance.now() > until) throw this.#stuck("does not read");
      }
    }
    return true;
  }

  /** Until no more than `most` sequences are outstanding; `false` where the server hung up instead. */
  #settle(most: number): boolean {
    const lane = this.#lane;
    if (lane === undefined) return this.#outstanding.length === 0;
    const started = performance.now();
    let askAt = started + ASK_AGAIN_MS;
    while (this.#outstanding.length > most) {
      if (!this.#drain(lane, 100)) return this.#outstanding.length <= most;
      const now = performance.now();
      if (now - started > this.#options.patienceMs) throw this.#stuck("does not answer");
      const last = this.#outstanding.at(-1);
      if (this.#blurred && now > askAt && last !== undefined) {
        askAt = now + ASK_AGAIN_MS;
        if (!this.#send(lane, markerFrame(last.marker), [])) return this.#outstanding.length <= most;
      }
    }
    return true;
  }

  #stuck(what: string): Error {
    return new Error(`the server ${what} within ${this.#options.patienceMs} ms; it was sent\n${this.report()}`);
  }

  /** What went over the connection last: what was not answered, and one before. */
  report(): string {
    return this.history
      .slice(-1 - Math.max(1, this.#outstanding.length))
      .map(describe)
      .join("\n");
  }

  /** Takes what has come, waiting for it at most so long. `false` where the connection has ended. */
  #drain(lane: Lane, waitMs: number): boolean {
    const { bystander } = this.#options;
    const lanes = this.#twin === undefined ? [lane] : [lane, this.#twin];
    if (waitMs > 0) waitReadable([...lanes.map(({ socket }) => socket.fd), bystander.fd], waitMs);
    bystander.look();
    for (const each of lanes) {
      while (!each.ended) {
        const { size, fds } = each.socket.receive(this.#into);
        this.#use(fds);
        if (size === -EAGAIN) break;
        if (size <= 0) {
          each.ended = true;
          break;
        }
        const came = Buffer.from(this.#into.subarray(0, size));
        each.bytes = each.bytes.length === 0 ? came : Buffer.concat([each.bytes, came]);
        if (each.bytes.includes(GUARD_PATTERN)) {
          throw new Error(`a reply holds what is outside of every map:\n${this.report()}`);
        }
        this.#read(each);
        if (size < this.#into.length) break;
      }
    }
    return !lane.ended;
  }

  #read(lane: Lane): void {
    while (lane.bytes.length >= HEADER_BYTES) {
      const size = lane.bytes.readUInt32LE(4);
      if (size < HEADER_BYTES || size > MAXIMUM_FRAME) throw new Error(`the server sent a message of ${size} bytes`);
      if (lane.bytes.length < size) return;
      const message = lane.bytes.subarray(0, size);
      lane.bytes = lane.bytes.subarray(size);
      const id = message.readUInt16LE(0);
      const flags = message.readUInt32LE(8);
      if ((flags & 0xf) === 1) {
        this.counts.replies++;
        if ((flags & 0x20) !== 0) {
          this.counts.errors++;
          if (size !== HEADER_BYTES || message.readUInt32LE(12) === 0) throw new Error("a malformed error reply");
        }
        if (id === this.#awaited) this.#awaited = -1;
        this.#answered(id);
      } else if (flags === 0) {
        this.counts.commandsFromServer++;
        this.#answer(lane, message);
      } else throw new Error(`the server sent flags 0x${flags.toString(16)}`);
    }
  }

  /** The server got through everything up to the request `id`, which it answers one after the other. */
  #answered(id: number): void {
    const at = this.#outstanding.findIndex(({ marker }) => marker === id);
    if (at > 0 && !this.#blurred) throw new Error(`the server left out ${at} answers; it was sent\n${this.report()}`);
    this.#outstanding.splice(0, at + 1);
  }

  /** Descriptors that came: memory of the device is scribbled on, signals are signalled. */
  #use(fds: readonly FileDescriptor[]): void {
    const { random } = this.#options;
    for (const fd of fds) {
      try {
        const bytes = Buffer.alloc(64);
        for (let at = 0; at < 64; at += 4) bytes.writeUInt32LE(random.oneIn(2) ? random.below(40) : random.word(), at);
        if (random.oneIn(2)) writeSync(fd.number, bytes, 0, 64, 0x1000 + 4 * random.below(32));
        else writeSync(fd.number, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]));
      } catch {
        // The other end of the twin socket, or memory that does not reach so far.
      }
    }
    const sockets = fds.length === 1 && this.#twin === undefined && this.#awaited === 1;
    for (const fd of fds) {
      if (sockets && isSocket(fd)) this.#twin = new Lane(new UnixSocket(fd));
      else fd.close();
    }
  }

  /** DMA_READ or DMA_WRITE of the server. */
  #answer(lane: Lane, message: Buffer): void {
    const { random } = this.#options;
    if (this.#manners === "silent") return;
    const id = message.readUInt16LE(0);
    const command = message.readUInt16LE(2);
    const count = Math.min(message.readUInt32LE(HEADER_BYTES + 8), MAXIMUM_FRAME);
    const data = command === Command.DMA_READ ? count : 0;
    const payload = Buffer.alloc(16 + data);
    message.copy(payload, 0, HEADER_BYTES, HEADER_BYTES + 16);
    for (let at = 16; at + 4 <= payload.length; at += 4) payload.writeUInt32LE(random.below(40), at);
    let reply: Uint8Array = frame(command, payload, { id, flags: 1 });
    if (this.#manners === "lying") {
      const choice = random.below(8);
      if (choice === 0) reply = frame(command, payload.subarray(0, random.below(payload.length)), { id, flags: 1 });
      else if (choice === 1) reply = frame(command, new Uint8Array(0), { id, flags: 0x21 });
      else if (choice === 2) reply = frame(command, payload, { id: id + 1, flags: 1 });
      else if (choice === 3) reply = frame(command, payload, { id, flags: 1, more: random.below(100) });
      else if (choice === 4) reply = frame(command + 1, payload, { id, flags: 1 });
      else if (choice === 5) payload.writeUInt32LE(random.word(), 8);
      else reply[HEADER_BYTES + random.below(16)] = random.below(256);
    }
    // Where it does not fit, it is cut short: one more thing that a client may do.
    const sent = lane.socket.send([reply]);
    if (lane === this.#lane && sent > 0 && sent < announced(reply)) this.#blurred = true;
  }
}

/** The size that a message says it has. */
function announced(message: Uint8Array): number {
  return new DataView(message.buffer, message.byteOffset).getUint32(4, true);
}

/** A harmless request whose reply says that the server got so far. */
function markerFrame(id: number): Uint8Array {
  const payload = new Uint8Array(16);
  payload[0] = payload.length;
  return frame(Command.DEVICE_GET_INFO, payload, { id });
}

/** Keeps maps off the guards: memory that would reach there is replaced by some of no interest. */
function guarded(bytes: Uint8Array, fds: readonly DescriptorKind[]): readonly DescriptorKind[] {
  if (!fds.includes("guarded")) return fds;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const isMap = bytes.length >= HEADER_BYTES + 32 && view.getUint16(2, true) === Command.DMA_MAP;
  const allowed =
    isMap &&
    GuardedMemory.allows(
      view.getBigUint64(HEADER_BYTES + 8, true),
      view.getBigUint64(HEADER_BYTES + 24, true),
      view.getUint32(HEADER_BYTES + 4, true),
    );
  return allowed ? fds : fds.map((kind) => (kind === "guarded" ? "sealed" : kind));
}

function isSocket(fd: FileDescriptor): boolean {
  try {
    new UnixSocket(fd).peerCredentials();
    return true;
  } catch {
    return false;
  }
}
