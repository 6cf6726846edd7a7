// What each command does, once a client is admitted. Errors are thrown with an errno, which becomes the reply.
import type { FileDescriptor } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import type { Message } from "./connection.ts";
import { closeAll } from "./framing.ts";
import {
  Command,
  commandName,
  HEADER_SIZE,
  MigrationData,
  MultiWrite,
  Region,
  RegionAccess,
  RegionWriteMulti,
} from "./messages.ts";
import { type ClientExchange, ServerDma } from "./server-dma.ts";
import { ServerFeatures } from "./server-features.ts";
import { ServerInterrupts } from "./server-interrupts.ts";
import { ServerIoFds } from "./server-io-fds.ts";
import { ServerMigration } from "./server-migration.ts";
import type { ServeOptions } from "./server-options.ts";
import type { Occupancy } from "./server-occupancy.ts";
import { checkPayload, refusal } from "./server-refusal.ts";
import { type RegionReply, ServerRegions } from "./server-regions.ts";
import type { Counters } from "./server-statistics.ts";
import type { Proposal } from "./server-version.ts";

/** A reply: `size` bytes of payload, given here or already in the output area. */
export interface Answer {
  readonly size: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly FileDescriptor[];
  /** Whether the command may have changed the function's state. */
  readonly changed: boolean;
}

interface Write {
  readonly region: number;
  readonly offset: number;
  readonly data: Uint8Array;
}

type Handler = (payload: Uint8Array, fds: readonly FileDescriptor[]) => Answer | Promise<Answer>;

export interface CommandParts {
  readonly fn: VirtualFunction;
  readonly client: ClientExchange;
  /** Who has the function besides. */
  readonly occupancy: Occupancy;
  readonly counters: Counters;
  readonly options: ServeOptions;
  readonly proposal: Proposal;
  /** Bytes of data that the server takes or gives in one message. */
  readonly maximumTransferBytes: number;
  /** The connection's output area. */
  readonly output: Uint8Array;
  readonly persist: () => void;
}

const DATA = HEADER_SIZE + RegionAccess.size;
/** Time for the writes of one message before others have their turn. */
const TURN_MS = 2;
const NOTHING: Answer = { size: 0, changed: false };
const CHANGED: Answer = { size: 0, changed: true };
const TAKES_FDS: ReadonlySet<number> = new Set([Command.DMA_MAP, Command.DEVICE_SET_IRQS]);

export class ServerCommands implements Disposable {
  readonly #parts: CommandParts;
  readonly #dma: ServerDma;
  readonly #interrupts: ServerInterrupts;
  readonly #regions: ServerRegions;
  readonly #ioFds: ServerIoFds;
  readonly #migration: ServerMigration;
  readonly #features: ServerFeatures;
  readonly #handlers: Readonly<Record<number, Handler>>;
  #disposed = false;

  constructor(parts: CommandParts) {
    const { fn, client, occupancy, counters, options, proposal, persist } = parts;
    this.#parts = parts;
    this.#dma = new ServerDma(fn, client, counters, options.trustUnsealedMemory === true);
    this.#interrupts = new ServerInterrupts(fn, occupancy, counters, persist, options);
    this.#regions = new ServerRegions(fn, occupancy.bars, proposal.bare, options);
    this.#ioFds = new ServerIoFds(fn, options.ioEventFds ?? [], persist);
    this.#migration = new ServerMigration(fn);
    this.#features = new ServerFeatures(fn, this.#migration, occupancy);
    const most = parts.maximumTransferBytes;
    this.#handlers = {
      [Command.DMA_MAP]: (payload, fds) => {
        this.#dma.map(payload, fds);
        return NOTHING;
      },
      [Command.DMA_UNMAP]: (payload) => plain(this.#dma.unmap(payload, most)),
      [Command.DEVICE_GET_INFO]: (payload) => plain(this.#regions.deviceInfo(payload)),
      [Command.DEVICE_GET_REGION_INFO]: (payload) => withFds(this.#regions.info(payload)),
      [Command.DEVICE_GET_REGION_IO_FDS]: (payload) => withFds(this.#ioFds.reply(payload, proposal.maximumFds)),
      [Command.DEVICE_GET_IRQ_INFO]: (payload) => plain(this.#interrupts.info(payload)),
      [Command.DEVICE_SET_IRQS]: (payload, fds) => {
        this.#interrupts.set(payload, fds);
        return CHANGED;
      },
      [Command.REGION_READ]: (payload) => this.#read(payload),
      [Command.REGION_WRITE]: (payload) => this.#write(payload),
      [Command.REGION_WRITE_MULTI]: (payload) => this.#writeMulti(payload),
      [Command.DEVICE_RESET]: () => {
        this.#migration.reset();
        const method = fn.resetByUser();
        if (!(method instanceof Promise)) return CHANGED;
        occupancy.resetting(method);
        return method.then(() => CHANGED);
      },
      [Command.DEVICE_FEATURE]: (payload) => {
        const reply = this.#features.handle(payload, most);
        return reply instanceof Promise ? reply.then(changing) : changing(reply);
      },
      [Command.MIG_DATA_READ]: (payload) => this.#readMigration(payload),
      [Command.MIG_DATA_WRITE]: (payload) => this.#writeMigration(payload),
    };
  }

  /** Whether the function's state is on its way to another server, or from one. */
  get moving(): boolean {
    return this.#migration.moving || this.#parts.fn.memory.dirty.active;
  }

  execute({ command, payload, fds }: Message): Answer | Promise<Answer> {
    const handler = this.#handlers[command];
    if (!TAKES_FDS.has(command)) closeAll(fds);
    if (handler === undefined) {
      throw refusal("EINVAL", `${commandName(command)} is no command for a server that has been greeted`);
    }
    return handler(payload, fds);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#ioFds[Symbol.dispose]();
    this.#interrupts[Symbol.dispose]();
    this.#dma[Symbol.dispose]();
    this.#migration.reset();
  }

  #read(payload: Uint8Array): Answer {
    const { offset, region, count } = this.#access(payload);
    const { output, client } = this.#parts;
    if (client.nested) {
      // The output area belongs to the command whose device waits for the client.
      const reply = new Uint8Array(RegionAccess.size + count);
      reply.set(payload.subarray(0, RegionAccess.size));
      this.#regions.read(region, offset, reply.subarray(RegionAccess.size));
      return { size: reply.length, payload: reply, changed: region <= Region.BAR5 };
    }
    // Straight to where the reply is sent from. A device that talks to the client meanwhile uses another area for that.
    this.#regions.read(region, offset, output.subarray(DATA, DATA + count));
    output.set(payload.subarray(0, RegionAccess.size), HEADER_SIZE);
    return { size: RegionAccess.size + count, changed: region <= Region.BAR5 };
  }

  #write(payload: Uint8Array): Answer {
    const { offset, region, count } = this.#access(payload);
    const data = payload.subarray(RegionAccess.size);
    if (data.length !== count) throw refusal("EINVAL", `${data.length} bytes of data came for a count of ${count}`);
    this.#regions.write(region, offset, data);
    return { size: RegionAccess.size, payload: payload.subarray(0, RegionAccess.size), changed: true };
  }

  #access(payload: Uint8Array): { offset: number; region: number; count: number } {
    checkPayload(payload, RegionAccess.size, "a region access");
    const { offset, region, count } = RegionAccess.from(payload);
    if (count > this.#parts.maximumTransferBytes) {
      throw refusal("EINVAL", `${count} bytes are more than ${this.#parts.maximumTransferBytes}`);
    }
    this.#regions.check(region, offset, count);
    return { offset: Number(offset), region, count };
  }

  /** All writes are checked before the first is done. */
  #writeMulti(payload: Uint8Array): Answer | Promise<Answer> {
    checkPayload(payload, RegionWriteMulti.size, "REGION_WRITE_MULTI");
    const { wr_cnt } = RegionWriteMulti.from(payload);
    const room = Math.floor((payload.length - RegionWriteMulti.size) / MultiWrite.size);
    if (wr_cnt > BigInt(room)) throw refusal("EINVAL", `${wr_cnt} writes were announced, ${room} came`);
    const writes: Write[] = Array.from({ length: Number(wr_cnt) }, (_, i) => {
      const at = RegionWriteMulti.size + i * MultiWrite.size;
      const { offset, region, count } = MultiWrite.from(payload, at);
      if (count > 8) throw refusal("EINVAL", `a write of ${count} bytes, where 8 are possible`);
      this.#regions.check(region, offset, count);
      return { offset: Number(offset), region, data: payload.subarray(at + 16, at + 16 + count) };
    });
    const answer = { size: RegionWriteMulti.size, payload: payload.slice(0, RegionWriteMulti.size), changed: true };
    const done = this.#writeFor(writes, 0);
    if (done === writes.length) return answer;
    // The message's bytes are overwritten meanwhile.
    const rest = writes.slice(done).map(({ data, ...place }) => ({ ...place, data: data.slice() }));
    return this.#writeRest(rest, answer);
  }

  /** A write can be a lot of work for a device: after a while everybody else has a turn. */
  async #writeRest(writes: readonly Write[], answer: Answer): Promise<Answer> {
    for (let at = 0; at < writes.length; ) {
      await new Promise((resolve) => setImmediate(resolve));
      await this.#parts.occupancy.pause;
      if (this.#disposed) throw refusal("EIO", "the client is gone");
      at = this.#writeFor(writes, at);
    }
    return answer;
  }

  /** Does writes from number `at` on for a short while: where to go on. */
  #writeFor(writes: readonly Write[], at: number): number {
    const until = performance.now() + TURN_MS;
    let next = at;
    while (next < writes.length) {
      const { offset, region, data } = writes[next++] as Write;
      this.#regions.write(region, offset, data);
      if (performance.now() > until) break;
    }
    return next;
  }

  #readMigration(payload: Uint8Array): Answer {
    checkPayload(payload, MigrationData.size, "MIG_DATA_READ");
    const { argsz, size } = MigrationData.from(payload);
    if (argsz < MigrationData.size || size > argsz - MigrationData.size) {
      throw refusal("EINVAL", `argsz ${argsz} does not hold ${size} bytes of data`);
    }
    if (size > this.#parts.maximumTransferBytes) throw refusal("EINVAL", `${size} bytes are too many at a time`);
    const data = this.#migration.read(size);
    const reply = new Uint8Array(MigrationData.size + data.length);
    reply.set(MigrationData.bytes({ argsz: reply.length, size: data.length }));
    reply.set(data, MigrationData.size);
    return plain(reply);
  }

  #writeMigration(payload: Uint8Array): Answer {
    checkPayload(payload, MigrationData.size, "MIG_DATA_WRITE");
    const { size } = MigrationData.from(payload);
    const data = payload.subarray(MigrationData.size);
    if (data.length !== size) throw refusal("EINVAL", `${data.length} bytes of data came, ${size} were announced`);
    this.#migration.write(data);
    return NOTHING;
  }
}

function plain(payload: Uint8Array): Answer {
  return { size: payload.length, payload, changed: false };
}

function changing(payload: Uint8Array): Answer {
  return { size: payload.length, payload, changed: true };
}

function withFds({ payload, fds }: RegionReply): Answer {
  return { size: payload.length, payload, fds, changed: false };
}
