// DMA_MAP and DMA_UNMAP, and what a device does with a map that came without a file: DMA_READ and DMA_WRITE messages to
// the client, in pieces that the client takes.
import { Ring3Error } from "../binary/error.ts";
import { errnoName, type FileDescriptor } from "../linux/index.ts";
import type { DmaPermission } from "../pci/function.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import type { MapBacking } from "../virtual/guest-memory.ts";
import type { Reply } from "./connection.ts";
import { closeAll } from "./framing.ts";
import {
  Command,
  DmaBitmap,
  DmaMap,
  DmaMapFlag,
  DmaUnmap,
  DmaUnmapFlag,
  HEADER_SIZE,
  HeaderFlag,
  HeaderOffset,
} from "./messages.ts";
import { ClientMemory } from "./server-memory.ts";
import { checkPayload, refusal } from "./server-refusal.ts";
import type { Counters } from "./server-statistics.ts";

/** Messages to the client, as the session sends them. */
export interface ClientExchange {
  /** Bytes of data that the client takes in one message. */
  readonly maximumTransferBytes: number;
  /** Where a command's payload is put, from 16 on. */
  readonly request: { readonly view: DataView; readonly bytes: Uint8Array };
  /** Whether a command is being served while a reply is awaited. */
  readonly nested: boolean;
  /** Sends the command, waits for its reply and gives it to `use`. Throws where the client fails; it is disconnected then. */
  exchange(command: number, size: number, use: (reply: Reply) => void): void;
}

/** A bit of an older text, which said that a descriptor comes along. */
const MAPPABLE = 4;
const U64_END = 2n ** 64n;
const SAFE_END = 2n ** 53n;
const DATA = HEADER_SIZE + 16;
/** QEMU up to 10.2 has 32 bits of count, and the data right behind. */
const DATA_32 = HEADER_SIZE + 12;
/**
 * Asked for in one message at most: QEMU (11.1 at least) sends a reply by one call that does not wait, and loses what the
 * socket's buffer does not take (208 KiB by default, less what each piece of it costs).
 */
const READ_BYTES = 65_536;

export class ServerDma implements Disposable {
  readonly #fn: VirtualFunction;
  readonly #client: ClientExchange;
  readonly #counters: Counters;
  readonly #memory: ClientMemory;

  constructor(fn: VirtualFunction, client: ClientExchange, counters: Counters, trustUnsealed: boolean) {
    this.#fn = fn;
    this.#client = client;
    this.#counters = counters;
    this.#memory = new ClientMemory({ arena: fn.arena, trustUnsealed });
  }

  map(payload: Uint8Array, fds: readonly FileDescriptor[]): void {
    const [fd, ...more] = fds;
    closeAll(more);
    let owned: FileDescriptor | undefined = fd;
    try {
      checkPayload(payload, DmaMap.size, "DMA_MAP");
      const { argsz, flags, offset, address, size } = DmaMap.from(payload);
      if (argsz < DmaMap.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${DmaMap.size}`);
      if (more.length > 0) throw refusal("EINVAL", "DMA_MAP takes one file descriptor");
      const permission = permissionOf(flags);
      const range = safeRange(address, size);
      if (offset > SAFE_END - size) throw refusal("EINVAL", "the file offset is out of range");
      // Before anything is mapped: a client that repeats itself must not cost an mmap each time.
      const { memory } = this.#fn;
      if (memory.count >= memory.maximum) throw refusal("ENOSPC", `there are ${memory.maximum} maps already`);
      let backing: MapBacking;
      if (owned === undefined) backing = this.#byMessage(range.iova);
      else {
        const file = owned;
        owned = undefined;
        backing = this.#memory.backing(file, Number(offset), range.size, permission);
      }
      try {
        memory.map(range.iova, range.size, permission, backing, this);
        this.#counters.dmaMapsMade++;
      } catch (error) {
        backing.release?.();
        throw error;
      }
    } finally {
      owned?.close();
    }
  }

  /** Gives the reply's payload: the request's, and with the flag the bitmap behind it. */
  unmap(payload: Uint8Array, maximumReplyBytes: number): Uint8Array {
    checkPayload(payload, DmaUnmap.size, "DMA_UNMAP");
    const { argsz, flags, address, size } = DmaUnmap.from(payload);
    if (argsz < DmaUnmap.size) throw refusal("EINVAL", `argsz ${argsz} is less than ${DmaUnmap.size}`);
    if ((flags & ~(DmaUnmapFlag.ALL | DmaUnmapFlag.GET_DIRTY_BITMAP)) !== 0) {
      throw refusal("EINVAL", `DMA_UNMAP has no flags 0x${flags.toString(16)}`);
    }
    const { memory } = this.#fn;
    if ((flags & DmaUnmapFlag.ALL) !== 0) {
      if (flags !== DmaUnmapFlag.ALL || address !== 0n || size !== 0n) {
        throw refusal("EINVAL", "to unmap all takes address 0, size 0 and no bitmap");
      }
      memory.unmapAll(this);
      return payload.slice(0, DmaUnmap.size);
    }
    const range = safeRange(address, size);
    const bitmap = (flags & DmaUnmapFlag.GET_DIRTY_BITMAP) !== 0;
    const reply = bitmap ? this.#withBitmap(payload, argsz, range, maximumReplyBytes) : payload.slice(0, DmaUnmap.size);
    if (memory.unmap(range.iova, range.size, this).length === 0) {
      throw refusal("ENOENT", `nothing is mapped in the ${range.size} bytes at 0x${range.iova.toString(16)}`);
    }
    return reply;
  }

  /** The client's maps go, and those of others stay. */
  [Symbol.dispose](): void {
    this.#fn.memory.unmapAll(this);
    this.#memory[Symbol.dispose]();
  }

  #withBitmap(
    payload: Uint8Array,
    argsz: number,
    { iova, size }: { readonly iova: number; readonly size: number },
    maximumReplyBytes: number,
  ): Uint8Array {
    const head = DmaUnmap.size + DmaBitmap.size;
    checkPayload(payload, head, "DMA_UNMAP with a bitmap");
    const { pgsize, size: bitmapSize } = DmaBitmap.from(payload, DmaUnmap.size);
    const pageSize = pageSizeOf(pgsize);
    const bytes = Math.ceil(Math.ceil(size / pageSize) / 64) * 8;
    if (bitmapSize < BigInt(bytes)) throw refusal("EINVAL", `a bitmap of ${bytes} bytes is needed`);
    if (bitmapSize > BigInt(maximumReplyBytes - head) || argsz < head + Number(bitmapSize)) {
      throw refusal("EINVAL", `argsz ${argsz} does not hold a bitmap of ${bitmapSize} bytes`);
    }
    const reply = new Uint8Array(head + Number(bitmapSize));
    reply.set(payload.subarray(0, head));
    this.#fn.memory.dirty.report(iova, size, pageSize, reply.subarray(head));
    return reply;
  }

  /** While the client is asked it may take the memory back, or reset the function: then nothing goes on. */
  #byMessage(iova: number): MapBacking {
    let gone = false;
    const check = (): void => {
      if (gone) throw interrupted("took the memory away");
      if (!this.#fn.memory.busMaster) throw interrupted("switched bus mastering off");
    };
    return {
      transfer: {
        read: (offset, target) => this.#read(iova + offset, target, check),
        write: (offset, source) => this.#write(iova + offset, source, check),
      },
      release: () => {
        gone = true;
      },
    };
  }

  #read(address: number, target: Uint8Array, check: () => void): void {
    const most = Math.min(this.#client.maximumTransferBytes, READ_BYTES);
    for (let at = 0; at < target.length; at += most) {
      const count = Math.min(most, target.length - at);
      this.#put(address + at, count);
      this.#client.exchange(Command.DMA_READ, 16, (reply) => {
        checkReply(reply, "DMA_READ", address + at, count);
        const got = reply.size - (reply.size === DATA_32 + count ? DATA_32 : DATA);
        if (got !== count) throw wrongReply("DMA_READ", `${reply.size} bytes, where ${DATA + count} were expected`);
        const data = reply.frame + reply.size - count;
        target.set(reply.bytes.subarray(data, data + count), at);
      });
      check();
    }
  }

  #write(address: number, source: Uint8Array, check: () => void): void {
    const most = this.#client.maximumTransferBytes;
    for (let at = 0; at < source.length; at += most) {
      const count = Math.min(most, source.length - at);
      this.#put(address + at, count);
      this.#client.request.bytes.set(source.subarray(at, at + count), DATA);
      this.#client.exchange(Command.DMA_WRITE, 16 + count, (reply) =>
        checkReply(reply, "DMA_WRITE", address + at, count),
      );
      check();
    }
  }

  #put(address: number, count: number): void {
    const { view } = this.#client.request;
    view.setBigUint64(HEADER_SIZE, BigInt(address), true);
    view.setUint32(HEADER_SIZE + 8, count, true);
    view.setUint32(HEADER_SIZE + 12, 0, true);
  }
}

function checkReply({ view, frame, size }: Reply, name: string, address: number, count: number): void {
  if ((view.getUint32(frame + HeaderOffset.FLAGS, true) & HeaderFlag.ERROR) !== 0) {
    const errno = view.getUint32(frame + HeaderOffset.ERROR, true);
    throw new Ring3Error(
      "DMA_REFUSED",
      `the client refused ${name} of ${count} bytes at 0x${address.toString(16)}: ${errnoName(errno)}`,
      { errno: errnoName(errno) },
    );
  }
  if (size < DATA_32) throw wrongReply(name, `a reply of ${size} bytes`);
  const done = view.getUint32(frame + HEADER_SIZE + 8, true);
  if (done !== count) throw wrongReply(name, `${done} of ${count} bytes`);
}

function interrupted(what: string): Ring3Error {
  return new Ring3Error("DMA_REFUSED", `the client ${what} in the middle of a transfer`, { errno: "EIO" });
}

function wrongReply(name: string, what: string): Ring3Error {
  return new Ring3Error("DMA_REFUSED", `the client answered ${name} with ${what}`, { errno: "EPROTO" });
}

function permissionOf(flags: number): DmaPermission {
  const { READABLE, WRITEABLE } = DmaMapFlag;
  if ((flags & ~(READABLE | WRITEABLE | MAPPABLE)) !== 0) {
    throw refusal("EINVAL", `DMA_MAP has no flags 0x${flags.toString(16)}`);
  }
  const access = flags & (READABLE | WRITEABLE);
  if (access === 0) throw refusal("EINVAL", "a map that is neither readable nor writeable is of no use");
  return access === READABLE ? "read" : access === WRITEABLE ? "write" : "read-write";
}

/** Checks before numbers are made, so that nothing wraps or rounds. */
export function safeRange(address: bigint, size: bigint): { iova: number; size: number } {
  if (size === 0n) throw refusal("EINVAL", "a range of no bytes");
  if (address + size > U64_END) throw refusal("EINVAL", "the range passes the end of the address space");
  if (address + size > SAFE_END) throw refusal("EINVAL", "addresses from 2^53 on are not supported");
  return { iova: Number(address), size: Number(size) };
}

/** A power of two from 4096 on. */
export function pageSizeOf(value: bigint): number {
  const size = Number(value);
  if (value >= 4096n && value < SAFE_END && 2 ** Math.round(Math.log2(size)) === size) return size;
  throw refusal("EINVAL", `a page size is a power of two from 4096 on, not ${value}`);
}
