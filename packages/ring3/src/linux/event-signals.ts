// Signals to eventfds that belong to somebody else. Hard about it: O_NONBLOCK is a property of the open file, so their
// other owner can take it away and fill the counter, and a plain write would block this thread for ever. The kernel itself
// signals without waiting: where an asynchronous read that is done at once (linux/aio_abi.h) names the eventfd to signal.
import { MappedMemory } from "./mapped-memory.ts";
import * as native from "./native.ts";

const NUMBERS: Readonly<Record<string, { readonly setup: number; readonly submit: number }>> = {
  x64: { setup: 206, submit: 209 },
  arm64: { setup: 0, submit: 2 },
};
const QUEUE_ENTRIES = 64;
/** Words of struct aio_ring, at the address that is the queue's name: what is behind the head was looked at. */
const RING = { HEAD: 2, TAIL: 3, MAGIC: 4, BYTES: 32 } as const;
const RING_MAGIC = 0xa10a_10a1;
/** Bytes of the one page: the queue's name, the list of one request, the request (struct iocb), where it would read to. */
const AT = { QUEUE: 0, LIST: 64, REQUEST: 128, TARGET: 1024 } as const;
const REQUEST = { FD: 20, TARGET: 24, FLAGS: 56, EVENT_FD: 60 } as const;
const FLAG_EVENT_FD = 1;
const POLL_OUT = 4;

/** Signals eventfds one by one; none of it waits. */
export interface EventSignals {
  signal(eventFd: number): void;
}

/** Through the kernel's queue; `undefined` where this system has none. */
function queued(): EventSignals | undefined {
  const numbers = NUMBERS[process.arch];
  if (numbers === undefined) return undefined;
  const memory = MappedMemory.anonymous(4096);
  const base = native.addressOfView(memory.bytes);
  const view = new DataView(memory.bytes.buffer);
  const { setup, submit } = numbers;
  if (native.attemptCall(() => native.syscall(setup, QUEUE_ENTRIES, base + AT.QUEUE, 0, 0)) < 0) return undefined;
  const queue = Number(view.getBigUint64(AT.QUEUE, true));
  const ring = new Uint32Array(native.viewAt(queue, RING.BYTES));
  if (ring[RING.MAGIC] !== RING_MAGIC) return undefined;
  view.setBigUint64(AT.LIST, BigInt(base + AT.REQUEST), true);
  view.setBigUint64(AT.REQUEST + REQUEST.TARGET, BigInt(base + AT.TARGET), true);
  view.setUint32(AT.REQUEST + REQUEST.FLAGS, FLAG_EVENT_FD, true);
  return {
    signal: (eventFd) => {
      ring[RING.HEAD] = ring[RING.TAIL] as number;
      // A read of no bytes of the eventfd itself: it fails at once, and that is signalled like any other end.
      view.setUint32(AT.REQUEST + REQUEST.FD, eventFd, true);
      view.setUint32(AT.REQUEST + REQUEST.EVENT_FD, eventFd, true);
      native.attemptCall(() => native.syscall(submit, queue, 1, base + AT.LIST, 0));
    },
  };
}

/** By looking before each write: a peer that fills the counter in between is not noticed. */
function watched(): EventSignals {
  const one = new Uint8Array(BigUint64Array.of(1n).buffer);
  const record = new DataView(new ArrayBuffer(8));
  const bytes = new Uint8Array(record.buffer);
  return {
    signal: (eventFd) => {
      record.setInt32(0, eventFd, true);
      record.setInt16(4, POLL_OUT, true);
      if (native.pollOnce(bytes, 1, 0) <= 0 || (record.getInt16(6, true) & POLL_OUT) === 0) return;
      native.attemptCall(() => native.write(eventFd, one, 8));
    },
  };
}

let signals: EventSignals | undefined;

/** This thread's way to signal. A counter that is full stays full: nobody has looked for 2^64 signals. */
export function eventSignals(): EventSignals {
  signals ??= queued() ?? watched();
  return signals;
}

/** Both ways, for tests. */
export const waysToSignal: readonly (() => EventSignals | undefined)[] = [queued, watched];
