// A vfio-user server of few words that lies on command: it answers as a small PCI device, except where a test says what to
// send instead, down to the byte. It runs in a worker, one connection after the other, since a client blocks its thread.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { FileDescriptor } from "../../packages/ring3/src/linux/file-descriptor.ts";
import { createMemoryFile } from "../../packages/ring3/src/linux/memory-file.ts";
import { waitReadable } from "../../packages/ring3/src/linux/poller.ts";
import { UnixListener, type UnixSocket } from "../../packages/ring3/src/linux/sockets.ts";
import {
  Command,
  DeviceInfo,
  HEADER_SIZE,
  Header,
  IrqInfo,
  RegionInfo,
  Version,
} from "../../packages/ring3/src/vfio-user/messages.ts";

/** What is sent in place of a reply, one piece after the other. */
export type Piece =
  /** A reply with this payload; members of its header may be anything. */
  | {
      readonly payload: Uint8Array;
      readonly id?: number;
      readonly command?: number;
      readonly size?: number;
      readonly flags?: number;
      readonly error?: number;
      /** Sizes of the memory files that come along. */
      readonly fds?: readonly number[];
    }
  /** Bytes, as they are. */
  | { readonly raw: Uint8Array }
  /** The honest reply, with some of its bytes changed. */
  | { readonly changed: readonly (readonly [offset: number, value: number])[] }
  | "honest"
  | "close";

/** Answers to a command; without them nothing is said. `times`: how often, `after` so many honest replies. */
export interface Lie {
  readonly command: number;
  readonly after?: number;
  readonly times?: number;
  readonly pieces: readonly Piece[];
}

/** The lies of one connection. */
export type Script = readonly Lie[];

/** A frame that the server received. */
export interface Heard {
  readonly connection: number;
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
}

/** Starts the server for as many connections as there are scripts. Disposal removes its socket. */
export class LyingServer implements AsyncDisposable {
  readonly path: string;
  readonly #folder: string;
  readonly #worker: Worker;
  readonly #heard: Promise<Heard[]>;

  private constructor(scripts: readonly Script[]) {
    this.#folder = mkdtempSync(join(tmpdir(), "ring3-lying-"));
    this.path = join(this.#folder, "fn.sock");
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { path: this.path, scripts } });
    this.#heard = new Promise((resolve, reject) => {
      this.#worker.on("error", reject);
      this.#worker.on("message", (message: "ready" | Heard[]) => {
        if (message !== "ready") resolve(message);
      });
    });
    this.#heard.catch(() => undefined);
  }

  static async start(...scripts: readonly Script[]): Promise<LyingServer> {
    const server = new LyingServer(scripts);
    await once(server.#worker, "message");
    return server;
  }

  /** What it was told, once all connections ended. */
  heard(): Promise<Heard[]> {
    return this.#heard;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const REPLY = 1;
const PATIENCE_MS = 10_000;

/** The device: config space, and BAR 0 of 4 KiB of memory. */
class SmallDevice {
  readonly config = new Uint8Array(256);
  readonly bar = new Uint8Array(4096);

  constructor() {
    this.config.set([0x34, 0x12, 0xcd, 0xab]);
  }

  /** The honest payload, and the error of a refusal. */
  answer(command: number, payload: Uint8Array): { payload: Uint8Array; error: number } {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const done = { payload: new Uint8Array(0), error: 0 };
    switch (command) {
      case Command.VERSION:
        return { ...done, payload: versionPayload({ max_msg_fds: 8 }) };
      case Command.DEVICE_GET_INFO:
        return { ...done, payload: DeviceInfo.bytes({ argsz: 16, flags: 3, num_regions: 9, num_irqs: 5 }) };
      case Command.DEVICE_GET_REGION_INFO: {
        const index = view.getUint32(8, true);
        const size = index === 7 ? 256n : index === 0 ? 4096n : 0n;
        return { ...done, payload: RegionInfo.bytes({ argsz: 32, flags: 3, index, size }) };
      }
      case Command.DEVICE_GET_IRQ_INFO: {
        const index = view.getUint32(8, true);
        return { ...done, payload: IrqInfo.bytes({ argsz: 16, flags: 9, index, count: index === 2 ? 4 : 0 }) };
      }
      case Command.REGION_READ:
      case Command.REGION_WRITE:
        return { ...done, payload: this.#access(command, payload, view) };
      case Command.DMA_MAP:
      case Command.DEVICE_SET_IRQS:
      case Command.DEVICE_RESET:
        return done;
      case Command.DMA_UNMAP:
        return { ...done, payload: payload.slice(0, 24) };
      default:
        return { ...done, error: 95 };
    }
  }

  #access(command: number, payload: Uint8Array, view: DataView): Uint8Array {
    const offset = view.getUint32(0, true);
    const count = view.getUint32(12, true);
    const space = view.getUint32(8, true) === 7 ? this.config : this.bar;
    if (command === Command.REGION_WRITE) {
      space.set(payload.subarray(16, 16 + count), offset);
      return payload.slice(0, 16);
    }
    const reply = new Uint8Array(16 + count);
    reply.set(payload.subarray(0, 16));
    reply.set(space.subarray(offset, offset + count), 16);
    return reply;
  }
}

/** A VERSION payload with these capabilities. */
export function versionPayload(capabilities: unknown, major = 0, minor = 0): Uint8Array {
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const payload = new Uint8Array(Version.size + text.length);
  payload.set(Version.bytes({ major, minor }));
  payload.set(text, Version.size);
  return payload;
}

function frame(header: Parameters<typeof Header.bytes>[0], payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE + payload.length);
  bytes.set(Header.bytes({ size: bytes.length, ...header }));
  bytes.set(payload, HEADER_SIZE);
  return bytes;
}

class Conversation {
  readonly #socket: UnixSocket;
  readonly #script: Script;
  readonly #connection: number;
  readonly #heard: Heard[];
  readonly #device = new SmallDevice();
  readonly #counts = new Map<Lie, number>();
  #bytes = new Uint8Array(0);

  constructor(socket: UnixSocket, script: Script, connection: number, heard: Heard[]) {
    this.#socket = socket;
    this.#script = script;
    this.#connection = connection;
    this.#heard = heard;
  }

  /** Until either side ends it. */
  run(): void {
    const buffer = new Uint8Array(65536);
    for (;;) {
      if (waitReadable([this.#socket.fd], PATIENCE_MS).length === 0) return;
      const { size, fds } = this.#socket.receive(buffer);
      for (const fd of fds) fd.close();
      if (size <= 0) return;
      const joined = new Uint8Array(this.#bytes.length + size);
      joined.set(this.#bytes);
      joined.set(buffer.subarray(0, size), this.#bytes.length);
      this.#bytes = joined;
      for (;;) {
        if (this.#bytes.length < HEADER_SIZE) break;
        const header = Header.from(this.#bytes);
        if (this.#bytes.length < header.size) break;
        const payload = this.#bytes.slice(HEADER_SIZE, header.size);
        this.#bytes = this.#bytes.slice(header.size);
        if (!this.#answer(header, payload)) return;
      }
    }
  }

  #answer(header: ReturnType<typeof Header.from>, payload: Uint8Array): boolean {
    const { message_id: id, command, flags, error } = header;
    this.#heard.push({ connection: this.#connection, id, command, flags, error, payload });
    if ((flags & 0xf) === REPLY) return true;
    const honest = this.#device.answer(command, payload);
    if ((flags & 0x10) !== 0) return true;
    const honestFlags = honest.error === 0 ? REPLY : REPLY | 0x20;
    const honestHeader = { message_id: id, command, flags: honestFlags, error: honest.error };
    for (const piece of this.#lieAbout(command)) {
      if (piece === "close") return false;
      if (piece === "honest") this.#send(frame(honestHeader, honest.payload));
      else if ("raw" in piece) this.#send(piece.raw);
      else if ("changed" in piece) {
        const bytes = frame(honestHeader, honest.payload);
        for (const [offset, value] of piece.changed) bytes[offset % bytes.length] = value;
        this.#send(bytes);
      } else {
        const lied = {
          message_id: piece.id ?? id,
          command: piece.command ?? command,
          flags: piece.flags ?? REPLY,
          error: piece.error ?? 0,
          ...(piece.size === undefined ? {} : { size: piece.size }),
        };
        this.#send(frame(lied, piece.payload), piece.fds);
      }
    }
    return true;
  }

  #lieAbout(command: number): readonly Piece[] {
    for (const lie of this.#script) {
      if (lie.command !== command) continue;
      const count = this.#counts.get(lie) ?? 0;
      this.#counts.set(lie, count + 1);
      const { after = 0, times = Infinity } = lie;
      if (count >= after && count < after + times) return lie.pieces;
    }
    return ["honest"];
  }

  #send(bytes: Uint8Array, sizes: readonly number[] = []): void {
    const fds: FileDescriptor[] = sizes.map((size) => createMemoryFile(size));
    this.#socket.send([bytes], fds, true);
    for (const fd of fds) fd.close();
  }
}

function serveLies(path: string, scripts: readonly Script[]): void {
  const heard: Heard[] = [];
  const listener = UnixListener.listen(path, { backlog: 64 });
  parentPort?.postMessage("ready");
  for (const [i, script] of scripts.entries()) {
    if (waitReadable([listener.fd], PATIENCE_MS).length === 0) break;
    using socket = listener.accept();
    if (socket !== undefined) new Conversation(socket, script, i, heard).run();
  }
  listener[Symbol.dispose]();
  parentPort?.postMessage(heard);
}

if (!isMainThread && typeof workerData === "object" && workerData !== null && "scripts" in workerData) {
  serveLies(workerData.path as string, workerData.scripts as Script[]);
}
