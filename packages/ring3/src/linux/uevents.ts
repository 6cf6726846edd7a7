// Kernel uevents (a function appears, goes, is bound, reports an error) over netlink, which needs no privilege.
// Documentation/core-api/kobject.rst and lib/kobject_uevent.c: "ACTION@DEVPATH", then KEY=VALUE strings, NUL terminated.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { watch } from "./poller.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_KOBJECT_UEVENT = 15;
const KERNEL_GROUP = 1;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const RECEIVE_BYTES = 2 ** 20;
const MESSAGE_BYTES = 16384;

/** One event. */
export interface Uevent {
  /** `add`, `remove`, `change`, `bind`, `unbind`, `move`, `online` or `offline`. */
  readonly action: string;
  /** Path of the object below `/sys`. */
  readonly devpath: string;
  readonly subsystem: string;
  readonly properties: Readonly<Record<string, string>>;
}

/** What the stream gives: events, or word that the kernel dropped some and the state must be read anew. */
export type UeventNotice = { readonly type: "event"; readonly event: Uevent } | { readonly type: "overflow" };

/** Decodes a message of the kernel; `undefined` for anything else. */
export function parseUevent(message: Uint8Array): Uevent | undefined {
  const [heading, ...pairs] = new TextDecoder().decode(message).split("\0");
  const at = heading?.indexOf("@") ?? -1;
  if (heading === undefined || at <= 0) return undefined;
  const properties: Record<string, string> = Object.create(null);
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals > 0) properties[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  const { ACTION, DEVPATH, SUBSYSTEM } = properties as { ACTION?: string; DEVPATH?: string; SUBSYSTEM?: string };
  return {
    action: ACTION ?? heading.slice(0, at),
    devpath: DEVPATH ?? heading.slice(at + 1),
    subsystem: SUBSYSTEM ?? "",
    properties,
  };
}

/**
 * The kernel's events from the moment of creation on. Each iterator and listener sees all that come after it began.
 * Disposal ends the iterators.
 */
export class UeventStream implements AsyncIterable<UeventNotice>, Disposable {
  readonly #fd: FileDescriptor;
  readonly #listeners = new Set<(notice: UeventNotice) => void>();
  readonly #enders = new Set<() => void>();
  readonly #message: Uint8Array = new Uint8Array(MESSAGE_BYTES);
  readonly #sender: Uint32Array<ArrayBuffer> = new Uint32Array(3);

  /** `keepsAlive`: whether an open stream keeps the process alive; no by default. */
  constructor({ keepsAlive = false }: { readonly keepsAlive?: boolean } = {}) {
    const type = SOCK_RAW | SOCK_CLOEXEC | OPEN.NONBLOCK;
    this.#fd = new FileDescriptor(
      native.systemCall("socket AF_NETLINK", () => native.socket(AF_NETLINK, type, NETLINK_KOBJECT_UEVENT)),
    );
    try {
      const number = this.#fd.number;
      const receive = new Uint8Array(new Uint32Array([RECEIVE_BYTES]).buffer);
      native.attemptCall(() => native.setsockopt(number, SOL_SOCKET, SO_RCVBUF, receive, 4));
      const address = new Uint8Array(new Uint32Array([AF_NETLINK, 0, KERNEL_GROUP]).buffer);
      native.systemCall("bind AF_NETLINK", () => native.bind(number, address, address.length));
      watch(this.#fd, () => this.#drain(), { keepsAlive });
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  /** Calls `listener` with each notice until disposed. */
  listen(listener: (notice: UeventNotice) => void): Disposable {
    if (this.#fd.closed) throw new Ring3Error("STREAM_CLOSED", "this stream of uevents was disposed; make a new one");
    const own = (notice: UeventNotice): void => listener(notice);
    this.#listeners.add(own);
    return { [Symbol.dispose]: () => void this.#listeners.delete(own) };
  }

  [Symbol.asyncIterator](): AsyncIterator<UeventNotice, undefined> & Disposable {
    const waiting: ((result: IteratorResult<UeventNotice, undefined>) => void)[] = [];
    const queue: UeventNotice[] = [];
    let ended = this.#fd.closed;
    const listening = ended
      ? undefined
      : this.listen((notice) => {
          const next = waiting.shift();
          if (next === undefined) queue.push(notice);
          else next({ done: false, value: notice });
        });
    const end = (): void => {
      if (ended) return;
      ended = true;
      listening?.[Symbol.dispose]();
      this.#enders.delete(end);
      for (const next of waiting.splice(0)) next({ done: true, value: undefined });
    };
    this.#enders.add(end);
    return {
      next: () => {
        const notice = queue.shift();
        if (notice !== undefined) return Promise.resolve({ done: false, value: notice });
        if (ended) return Promise.resolve({ done: true, value: undefined });
        return new Promise((resolve) => waiting.push(resolve));
      },
      return: () => {
        end();
        return Promise.resolve({ done: true, value: undefined });
      },
      [Symbol.dispose]: end,
    };
  }

  [Symbol.dispose](): void {
    for (const end of [...this.#enders]) end();
    this.#listeners.clear();
    this.#fd.close();
  }

  #drain(): void {
    const number = this.#fd.number;
    const sender = new Uint8Array(this.#sender.buffer);
    while (!this.#fd.closed) {
      const length = new Uint8Array(new Uint32Array([12]).buffer);
      const size = native.attemptCall(() => native.recvfrom(number, this.#message, MESSAGE_BYTES, 0, sender, length));
      if (size === -ERRNO.EAGAIN[0]) return;
      if (size === -ERRNO.ENOBUFS[0]) {
        this.#tell({ type: "overflow" });
        continue;
      }
      if (size < 0) throw systemCallError("recvfrom AF_NETLINK", -size);
      // Only the kernel has port 0: a process may send to the group too.
      const event = this.#sender[1] === 0 ? parseUevent(this.#message.subarray(0, size)) : undefined;
      if (event !== undefined) this.#tell({ type: "event", event });
    }
  }

  #tell(notice: UeventNotice): void {
    for (const listener of [...this.#listeners]) listener(notice);
  }
}
