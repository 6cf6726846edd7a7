// An NVMe controller in process, behind a FakeFunction: enough of base 2.0 and the NVM command set to run the driver, and
// hooks to make it lie, stall or die. Written from the specification's side, not from the driver's: it takes what the
// driver put into memory and nothing else.
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import { AdminOpcode, Cdw0, CommandWord, IoOpcode, Nvme, Status } from "../../packages/ring3/src/specs/nvme/index.ts";
import { FakeFunction } from "./fake-function.ts";
import { dataSegments } from "./fake-nvme-data.ts";
import { identifyData, logData } from "./fake-nvme-pages.ts";

export interface FakeNvmeOptions {
  readonly msix?: number;
  readonly intx?: boolean;
  readonly arena?: Arena;
  /** Exponent of the transfer limit; 5 (128 KiB) by default. */
  readonly mdts?: number;
  /** Doorbells are memory, looked at all the time: for workers and emitted loops. */
  readonly mappedDoorbells?: boolean;
  /** Entries at most; 1024 by default. */
  readonly maxQueueEntries?: number;
  /** I/O queues that it grants; 8 by default. */
  readonly maxIoQueues?: number;
  /** CAP.TO; 500 ms each. */
  readonly readyUnits?: number;
  readonly sgl?: boolean;
  readonly resetMethods?: readonly ["flr"] | readonly [];
}

/** A command as the fake fetched it. */
export interface FakeCommand {
  readonly queueId: number;
  readonly cid: number;
  readonly opcode: number;
  readonly words: Uint32Array;
}

/** A completion before it is written. */
export interface FakeCompletion {
  dw0: number;
  sqHead: number;
  sqId: number;
  cid: number;
  /** `type << 8 | code`. */
  status: number;
  phase: number;
}

/** What a test may change; each is asked at every occasion. */
export interface FakeNvmeHooks {
  /** `hold`: not executed until `release`; `vanish`: executed, never completed; a number: its status instead. */
  command?: (command: FakeCommand) => "hold" | "vanish" | "swallow" | number | undefined;
  /** Changes a completion, or drops it. */
  completion?: (completion: FakeCompletion, command: FakeCommand) => void | "drop";
  /** Changes the data that identify or get log page return. */
  data?: (command: FakeCommand, bytes: Uint8Array) => void;
  /** Changes what a register read returns. */
  register?: (offset: number, value: number) => number;
}

interface Queue {
  iova: number;
  entries: number;
  head: number;
  tail: number;
  phase: number;
  vector: number | undefined;
  /** Entries posted that the driver has not taken yet, for the line interrupt. */
  other: number;
}

export interface FakeDisk {
  readonly blockSize: number;
  readonly bytes: Uint8Array;
}

const PAGE = 4096;

export class FakeNvme {
  readonly fn: FakeFunction;
  readonly hooks: FakeNvmeHooks = {};
  /** Namespace contents by id. */
  readonly disks: Map<number, FakeDisk> = new Map([
    [1, { blockSize: 512, bytes: new Uint8Array(2 ** 20) }],
    [2, { blockSize: 4096, bytes: new Uint8Array(2 ** 21) }],
  ]);
  readonly #options: FakeNvmeOptions;
  readonly #registers: Map<number, number> = new Map();
  #submission: Map<number, Queue> = new Map();
  #completion: Map<number, Queue> = new Map();
  #held: FakeCommand[] = [];
  #events: FakeCommand[] = [];
  #features: Map<number, number> = new Map();
  #scheduled = false;
  #polling = false;
  #stopped = false;
  #absent = false;
  /** Times that the controller was enabled. */
  enables = 0;
  /** Whether CC.SHN was used. */
  shutDown = false;
  /** Commands executed, by `queue:opcode`. */
  readonly executed: string[] = [];

  constructor(options: FakeNvmeOptions = {}) {
    this.#options = options;
    this.fn = new FakeFunction({
      address: "fake:nvme",
      vendorId: 0x1b36,
      deviceId: 0x0010,
      classCode: 0x010802,
      msix: options.msix ?? 8,
      intx: options.intx ?? true,
      resetMethods: options.resetMethods ?? ["flr"],
      ...(options.arena === undefined ? {} : { arena: options.arena }),
      onReset: () => this.#reset(),
      bars: {
        0: {
          size: 0x4000,
          kind: "memory64",
          ...(options.mappedDoorbells === true ? { memory: { offset: 0x1000, size: 0x1000 } } : {}),
          read: (offset) => this.#read(offset),
          write: (offset, _width, value) => this.#write(offset, value),
        },
      },
    });
    this.fn.gone.addEventListener("abort", () => this.stop());
  }

  // --- What a test does to it -------------------------------------------------------------------------------------

  /** CSTS.CFS. */
  fatal(): void {
    this.#registers.set(Nvme.CSTS, (this.#registers.get(Nvme.CSTS) ?? 0) | 2);
  }

  /** Registers read all ones and commands are ignored. */
  vanish(absent = true): void {
    this.#absent = absent;
  }

  /** The machine slept: registers are at their reset values, config space is as before. */
  loseRegisters(): void {
    this.#reset();
  }

  /** Executes what was held. */
  release(): void {
    for (const command of this.#held.splice(0)) this.#finish(command, this.#execute(command));
  }

  get held(): readonly FakeCommand[] {
    return this.#held;
  }

  /** Completes an asynchronous event request. */
  event(dw0: number): boolean {
    const request = this.#events.shift();
    if (request === undefined) return false;
    this.#post(request, { status: 0, dw0 });
    return true;
  }

  get pendingEventRequests(): number {
    return this.#events.length;
  }

  /** Writes a completion that nothing asked for. */
  forge(completion: Partial<FakeCompletion>, queueId: number): void {
    const words = new Uint32Array(16);
    this.#post(
      { queueId, cid: completion.cid ?? 0, opcode: 0, words },
      { status: completion.status ?? 0, dw0: completion.dw0 ?? 0 },
      completion,
    );
  }

  /** Ends the loop that looks at mapped doorbells. */
  stop(): void {
    this.#stopped = true;
  }

  // --- Registers --------------------------------------------------------------------------------------------------

  #read(offset: number): number {
    const value = this.#absent ? 0xffff_ffff : this.#register(offset);
    return this.hooks.register?.(offset, value) ?? value;
  }

  #register(offset: number): number {
    switch (offset) {
      case Nvme.CAP_LOW:
        return (
          ((this.#options.maxQueueEntries ?? 1024) - 1 + (1 << 16) + (this.#options.readyUnits ?? 2) * 2 ** 24) >>> 0
        );
      case Nvme.CAP_HIGH:
        return 1 << 5;
      case Nvme.VS:
        return 0x0001_0400;
      default:
        return this.#registers.get(offset) ?? 0;
    }
  }

  #write(offset: number, value: number): void {
    if (this.#absent) return;
    if (offset >= Nvme.DOORBELLS) {
      this.#doorbell((offset - Nvme.DOORBELLS) / 4, value);
    } else if (offset === Nvme.CC) {
      const before = this.#registers.get(Nvme.CC) ?? 0;
      this.#registers.set(Nvme.CC, value);
      if ((value & 1) !== 0 && (before & 1) === 0) this.#enable();
      if ((value & 1) === 0 && (before & 1) !== 0) {
        this.#reset();
        this.#registers.set(Nvme.CC, value);
      }
      if (((value >>> 14) & 3) !== 0) {
        this.shutDown = true;
        this.#registers.set(Nvme.CSTS, (this.#registers.get(Nvme.CSTS) ?? 0) | 8);
      }
    } else {
      this.#registers.set(offset, value);
    }
  }

  #enable(): void {
    const at = (low: number): number => this.#register(low) + this.#register(low + 4) * 2 ** 32;
    const sizes = this.#register(Nvme.AQA);
    this.enables++;
    this.#submission = new Map([[0, newQueue(at(Nvme.ASQ_LOW), (sizes & 0xfff) + 1, 0, 0)]]);
    this.#completion = new Map([[0, newQueue(at(Nvme.ACQ_LOW), ((sizes >>> 16) & 0xfff) + 1, 0, 0)]]);
    this.#registers.set(Nvme.CSTS, 1);
    if (this.#options.mappedDoorbells === true) this.#poll();
  }

  #reset(): void {
    this.#registers.clear();
    this.#submission.clear();
    this.#completion.clear();
    this.#held = [];
    this.#events = [];
    this.#features = new Map();
    this.fn.bar(0).memory?.bytes.fill(0);
    this.fn.interrupts.level(false);
  }

  /** Mapped doorbells cannot call us, so they are looked at between turns of the event loop. */
  #poll(): void {
    if (this.#polling) return;
    this.#polling = true;
    const look = (): void => {
      const words = this.#stopped || this.fn.gone.aborted ? undefined : this.fn.bar(0).memory?.words;
      if (words === undefined || (this.#register(Nvme.CC) & 1) === 0) {
        this.#polling = false;
        return;
      }
      for (const [id, queue] of [...this.#submission]) {
        const tail = Atomics.load(words, 2 * id);
        if (tail !== queue.tail) this.#doorbell(2 * id, tail);
        const head = this.#completion.get(id);
        if (head !== undefined) head.head = Atomics.load(words, 2 * id + 1);
      }
      setImmediate(look);
    };
    setImmediate(look);
  }

  #doorbell(index: number, value: number): void {
    const queue = (index % 2 === 0 ? this.#submission : this.#completion).get(index >> 1);
    if (queue === undefined || value >= queue.entries) return;
    if (index % 2 === 0) {
      queue.tail = value;
      this.#schedule();
    } else {
      queue.head = value;
      const all = [...this.#completion.values()];
      if (all.every(({ head, tail, vector }) => vector === undefined || head === tail)) this.fn.interrupts.level(false);
    }
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#fetch();
    });
  }

  // --- Commands ---------------------------------------------------------------------------------------------------

  #fetch(): void {
    for (const [queueId, queue] of [...this.#submission]) {
      while (queue.head !== queue.tail && this.#submission.get(queueId) === queue && !this.#absent) {
        const bytes = this.fn.dma.read(queue.iova + queue.head * 64, 64);
        if (bytes === undefined) {
          this.fatal();
          return;
        }
        queue.head = (queue.head + 1) % queue.entries;
        const words = new Uint32Array(bytes.buffer);
        const word = words[0] as number;
        const command = { queueId, cid: Cdw0.CID.get(word), opcode: Cdw0.OPC.get(word), words };
        const what = this.hooks.command?.(command);
        if (what === "hold") this.#held.push(command);
        else if (what === "swallow") continue;
        else if (what === "vanish") this.#execute(command);
        else if (typeof what === "number") this.#finish(command, { status: what });
        else this.#finish(command, this.#execute(command));
      }
    }
  }

  #finish(command: FakeCommand, result: { status: number; dw0?: number } | undefined): void {
    if (result !== undefined) this.#post(command, { dw0: 0, ...result });
  }

  #post(command: FakeCommand, result: { status: number; dw0: number }, forged: Partial<FakeCompletion> = {}): void {
    const queue = this.#completion.get(command.queueId);
    const submission = this.#submission.get(command.queueId);
    if (queue === undefined || submission === undefined || this.fn.gone.aborted) return;
    const completion: FakeCompletion = {
      ...result,
      sqHead: submission.head,
      sqId: command.queueId,
      cid: command.cid,
      phase: queue.phase,
      ...forged,
    };
    if (this.hooks.completion?.(completion, command) === "drop") return;
    const at = queue.iova + queue.tail * 16;
    this.fn.dma.write32(at, completion.dw0);
    this.fn.dma.write32(at + 8, ((completion.sqId << 16) | completion.sqHead) >>> 0);
    const last = (completion.cid | (completion.phase << 16) | (completion.status << 17)) >>> 0;
    this.fn.dma.write32(at + 12, last);
    queue.tail = (queue.tail + 1) % queue.entries;
    if (queue.tail === 0) queue.phase ^= 1;
    if (queue.vector === undefined) return;
    if (this.fn.interrupts.active === "intx") this.fn.interrupts.level(true);
    else this.fn.interrupts.raise(queue.vector);
  }

  #execute(command: FakeCommand): { status: number; dw0?: number } | undefined {
    this.executed.push(`${command.queueId}:${command.opcode}`);
    return command.queueId === 0 ? this.#admin(command) : { status: this.#io(command) };
  }

  #admin(command: FakeCommand): { status: number; dw0?: number } | undefined {
    const { words, opcode } = command;
    const cdw10 = words[CommandWord.CDW10] as number;
    const cdw11 = words[CommandWord.CDW11] as number;
    switch (opcode) {
      case AdminOpcode.IDENTIFY:
        return this.#identify(command, cdw10 & 0xff, words[CommandWord.NSID] as number);
      case AdminOpcode.GET_LOG_PAGE:
        return this.#log(command, cdw10 & 0xff, ((cdw10 >>> 16) + (cdw11 & 0xffff) * 65536 + 1) * 4);
      case AdminOpcode.SET_FEATURES:
        if ((cdw10 & 0xff) === 7) {
          const limit = (this.#options.maxIoQueues ?? 8) - 1;
          const granted = Math.min(cdw11 & 0xffff, limit);
          return { status: 0, dw0: granted | (granted << 16) };
        }
        this.#features.set(cdw10 & 0xff, cdw11);
        return { status: 0, dw0: 0 };
      case AdminOpcode.GET_FEATURES:
        return { status: 0, dw0: this.#features.get(cdw10 & 0xff) ?? 0 };
      case AdminOpcode.CREATE_IO_COMPLETION_QUEUE:
      case AdminOpcode.CREATE_IO_SUBMISSION_QUEUE:
        return { status: this.#createQueue(command, cdw10, cdw11) };
      case AdminOpcode.DELETE_IO_SUBMISSION_QUEUE:
        for (const held of this.#held.filter(({ queueId }) => queueId === (cdw10 & 0xffff))) {
          this.#post(held, { status: Status.ABORTED_QUEUE_DELETION, dw0: 0 });
        }
        this.#held = this.#held.filter(({ queueId }) => queueId !== (cdw10 & 0xffff));
        return { status: this.#submission.delete(cdw10 & 0xffff) ? 0 : Status.INVALID_QUEUE_ID };
      case AdminOpcode.DELETE_IO_COMPLETION_QUEUE:
        return { status: this.#completion.delete(cdw10 & 0xffff) ? 0 : Status.INVALID_QUEUE_ID };
      case AdminOpcode.ABORT: {
        const index = this.#held.findIndex(({ queueId, cid }) => queueId === (cdw10 & 0xffff) && cid === cdw10 >>> 16);
        const [found] = index < 0 ? [] : this.#held.splice(index, 1);
        if (found !== undefined) this.#post(found, { status: Status.ABORT_REQUESTED, dw0: 0 });
        return { status: 0, dw0: found === undefined ? 1 : 0 };
      }
      case AdminOpcode.ASYNCHRONOUS_EVENT_REQUEST:
        if (this.#events.length >= 4) return { status: Status.ASYNCHRONOUS_EVENT_LIMIT };
        this.#events.push(command);
        return undefined;
      default:
        return { status: Status.INVALID_OPCODE };
    }
  }

  #createQueue({ opcode, words }: FakeCommand, cdw10: number, cdw11: number): number {
    const id = cdw10 & 0xffff;
    const iova = (words[CommandWord.PRP1_LOW] as number) + (words[CommandWord.PRP1_HIGH] as number) * 2 ** 32;
    const entries = (cdw10 >>> 16) + 1;
    const completion = opcode === AdminOpcode.CREATE_IO_COMPLETION_QUEUE;
    if (id === 0 || id > (this.#options.maxIoQueues ?? 8)) return Status.INVALID_QUEUE_ID;
    if ((completion ? this.#completion : this.#submission).has(id)) return Status.INVALID_QUEUE_ID;
    if (entries < 2 || entries > (this.#options.maxQueueEntries ?? 1024)) return Status.INVALID_QUEUE_SIZE;
    if ((cdw11 & 1) === 0) return Status.INVALID_FIELD;
    if (completion) {
      this.#completion.set(id, newQueue(iova, entries, (cdw11 & 2) === 0 ? undefined : cdw11 >>> 16, 0));
    } else {
      if (!this.#completion.has(cdw11 >>> 16)) return Status.COMPLETION_QUEUE_INVALID;
      this.#submission.set(id, newQueue(iova, entries, undefined, cdw11 >>> 16));
    }
    this.fn.bar(0).memory?.words.fill(0, 2 * id, 2 * id + 2);
    return 0;
  }

  #identify(command: FakeCommand, cns: number, nsid: number): { status: number } {
    const bytes = identifyData(cns, nsid, this.disks, this.#options);
    return { status: typeof bytes === "number" ? bytes : this.#give(command, bytes) };
  }

  #log(command: FakeCommand, page: number, size: number): { status: number } {
    const bytes = logData(page, size);
    return { status: bytes === undefined ? Status.INVALID_LOG_PAGE : this.#give(command, bytes) };
  }

  #give(command: FakeCommand, bytes: Uint8Array): number {
    this.hooks.data?.(command, bytes);
    return this.#transfer(command, bytes, true);
  }

  #io(command: FakeCommand): number {
    const { words, opcode } = command;
    const disk = this.disks.get(words[CommandWord.NSID] as number);
    if (disk === undefined) return Status.INVALID_NAMESPACE;
    if (opcode === IoOpcode.FLUSH) return 0;
    if (opcode === IoOpcode.DATASET_MANAGEMENT) return this.#deallocate(command, disk);
    const first = (words[CommandWord.CDW10] as number) + (words[CommandWord.CDW11] as number) * 2 ** 32;
    const size = (((words[CommandWord.CDW12] as number) & 0xffff) + 1) * disk.blockSize;
    const start = first * disk.blockSize;
    if (start + size > disk.bytes.length) return Status.LBA_OUT_OF_RANGE;
    const place = disk.bytes.subarray(start, start + size);
    switch (opcode) {
      case IoOpcode.READ:
        return this.#transfer(command, place, true);
      case IoOpcode.WRITE:
        return this.#transfer(command, place, false);
      case IoOpcode.COMPARE: {
        const other = new Uint8Array(size);
        const status = this.#transfer(command, other, false);
        return status !== 0 ? status : other.every((byte, i) => byte === place[i]) ? 0 : Status.COMPARE_FAILURE;
      }
      case IoOpcode.WRITE_ZEROES:
        place.fill(0);
        return 0;
      case IoOpcode.VERIFY:
        return 0;
      default:
        return Status.INVALID_OPCODE;
    }
  }

  #deallocate(command: FakeCommand, disk: FakeDisk): number {
    const ranges = new Uint8Array((((command.words[CommandWord.CDW10] as number) & 0xff) + 1) * 16);
    const status = this.#transfer(command, ranges, false);
    if (status !== 0) return status;
    const view = new DataView(ranges.buffer);
    for (let at = 0; at < ranges.length; at += 16) {
      const start = Number(view.getBigUint64(at + 8, true)) * disk.blockSize;
      disk.bytes.fill(0, start, start + view.getUint32(at + 4, true) * disk.blockSize);
    }
    return 0;
  }

  // --- Data -------------------------------------------------------------------------------------------------------

  /** Moves data between `bytes` and the command's data pointer. */
  #transfer(command: FakeCommand, bytes: Uint8Array, toHost: boolean): number {
    const limit = PAGE * 2 ** (this.#options.mdts ?? 5);
    if (command.queueId !== 0 && bytes.length > limit) return Status.INVALID_FIELD;
    const segments = dataSegments(this.fn, command.words, bytes.length);
    if (segments === undefined) return Status.DATA_TRANSFER_ERROR;
    let at = 0;
    for (const { iova, size } of segments) {
      const part = bytes.subarray(at, at + size);
      const source = toHost ? undefined : this.fn.dma.read(iova, size);
      if (toHost ? !this.fn.dma.write(iova, part) : source === undefined) return Status.DATA_TRANSFER_ERROR;
      if (source !== undefined) part.set(source);
      at += size;
    }
    return at === bytes.length ? 0 : Status.DATA_SGL_LENGTH;
  }
}

function newQueue(iova: number, entries: number, vector: number | undefined, other: number): Queue {
  return { iova, entries, head: 0, tail: 0, phase: 1, vector, other };
}
