// An NVMe target that is as strict as SPDK's vfio-user target, written from what that one was seen to do: one client, one
// thread, no server-to-client DMA, 64 maps, registers of 4 or 8 bytes, doorbells in shared memory, and a config space that
// keeps what the former client wrote. What a client does that SPDK's would not survive is a violation. It runs in a worker,
// since a client blocks its thread.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { memoryBacking, NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import type { FileDescriptor } from "../../packages/ring3/src/linux/file-descriptor.ts";
import { MappedMemory } from "../../packages/ring3/src/linux/mapped-memory.ts";
import { waitReadable } from "../../packages/ring3/src/linux/poller.ts";
import { UnixListener, type UnixSocket } from "../../packages/ring3/src/linux/sockets.ts";
import {
  Command,
  DmaMap,
  DmaUnmap,
  HEADER_SIZE,
  Header,
  HeaderFlag,
  RegionAccess,
} from "../../packages/ring3/src/vfio-user/messages.ts";
import { ServerInterrupts } from "../../packages/ring3/src/vfio-user/server-interrupts.ts";
import { Occupancy } from "../../packages/ring3/src/vfio-user/server-occupancy.ts";
import { ServerRegions } from "../../packages/ring3/src/vfio-user/server-regions.ts";
import { Counters } from "../../packages/ring3/src/vfio-user/server-statistics.ts";
import { versionPayload } from "./lying-server.ts";

const MAXIMUM_MAPS = 64;
const DOORBELLS = 0x1000;
const [CC, CSTS] = [0x14, 0x1c];
const [EPERM, EINVAL, ENOTSUP] = [1, 22, 95];
const PATIENCE_MS = 10_000;
const INTERRUPT_DISABLE = 1 << 10;

/** What the target saw of one client. */
export interface Seen {
  readonly violations: readonly string[];
  /** Commands received, by number. */
  readonly commands: Readonly<Record<number, number>>;
  /** Most maps at a time. */
  readonly maps: number;
}

/** Starts the target for `clients` clients, one after the other. Disposal removes its socket. */
export class SpdkTarget implements AsyncDisposable {
  readonly path: string;
  readonly #folder: string = mkdtempSync(join(tmpdir(), "ring3-spdk-"));
  readonly #worker: Worker;
  readonly #seen: Promise<Seen[]>;

  private constructor(clients: number) {
    this.path = join(this.#folder, "cntrl");
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { spdkTarget: this.path, clients } });
    this.#seen = new Promise((resolve, reject) => {
      this.#worker.on("error", reject);
      this.#worker.on("message", (message: "ready" | Seen[]) => {
        if (message !== "ready") resolve(message);
      });
    });
    this.#seen.catch(() => undefined);
  }

  static async start(clients = 1): Promise<SpdkTarget> {
    const target = new SpdkTarget(clients);
    await once(target.#worker, "message");
    return target;
  }

  /** What it saw of each client, once the last one has left. */
  seen(): Promise<Seen[]> {
    return this.#seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** An errno, thrown for an error reply. */
class Refusal extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

class Target {
  readonly device: NvmeDevice = new NvmeDevice({
    namespaces: [{ backing: memoryBacking(new Uint8Array(2 ** 20)) }],
    mappableDoorbells: true,
    shadowDoorbells: false,
    ioQueues: 4,
  });
  readonly #occupancy: Occupancy = new Occupancy(this.device, 1);
  readonly #regions: ServerRegions = new ServerRegions(this.device, this.#occupancy.bars, true);
  readonly #maps: Map<bigint, { readonly size: bigint; readonly memory: MappedMemory }> = new Map();
  readonly #violations: string[] = [];
  readonly #commands: Record<number, number> = {};
  #interrupts: ServerInterrupts = new ServerInterrupts(this.device, this.#occupancy, new Counters(), () => {});
  #signals = 0;
  #most = 0;
  #checked = false;

  constructor() {
    this.device.connect({ name: "SPDK's place" });
    // What a former client left: the target keeps config space when one goes.
    this.device.config.write(4, 2, 6);
    this.#enableMsix(true);
  }

  /** One client, until it leaves. */
  serve(socket: UnixSocket): Seen {
    const buffer = new Uint8Array(2 ** 20);
    let bytes = new Uint8Array(0);
    const fds: FileDescriptor[] = [];
    for (let idleMs = 0; idleMs < PATIENCE_MS; ) {
      const worked = this.device.polled ? this.device.runPoll() : 0;
      if (worked > 0) this.#completed();
      if (waitReadable([socket.fd], worked > 0 ? 0 : 1).length === 0) {
        idleMs += worked > 0 ? 0 : 1;
        continue;
      }
      idleMs = 0;
      const got = socket.receive(buffer);
      fds.push(...got.fds);
      if (got.size <= 0) break;
      if (bytes.length === 0 && got.size < HEADER_SIZE) this.#violation("a header in two pieces");
      const joined = new Uint8Array(bytes.length + got.size);
      joined.set(bytes);
      joined.set(buffer.subarray(0, got.size), bytes.length);
      bytes = joined;
      while (bytes.length >= HEADER_SIZE && bytes.length >= Header.from(bytes).size) {
        const header = Header.from(bytes);
        const payload = bytes.slice(HEADER_SIZE, header.size);
        bytes = bytes.slice(header.size);
        this.#answer(socket, header, payload, fds.splice(0));
      }
    }
    if (this.#enabled) this.#violation("left with the controller enabled: SPDK crashed");
    for (const { memory } of this.#maps.values()) memory[Symbol.dispose]();
    const seen = { violations: [...this.#violations], commands: { ...this.#commands }, maps: this.#most };
    this.#maps.clear();
    this.device.memory.unmapAll();
    this.#interrupts[Symbol.dispose]();
    this.#interrupts = new ServerInterrupts(this.device, this.#occupancy, new Counters(), () => {});
    this.#signals = 0;
    this.#checked = false;
    return seen;
  }

  get #enabled(): boolean {
    return (this.device.barRead32(0, CC) & 1) !== 0 && (this.device.barRead32(0, CSTS) & 1) !== 0;
  }

  #violation(what: string): void {
    this.#violations.push(what);
  }

  #msixControl(): number {
    const { config } = this.device;
    for (let at = config.read(0x34, 1); at !== 0; at = config.read(at + 1, 1))
      if (config.read(at, 1) === 0x11) return at + 2;
    throw new Error("no MSI-X");
  }

  #enableMsix(on: boolean): void {
    this.device.config.write(this.#msixControl(), 2, on ? 0x8000 : 0);
  }

  /** At the first completion SPDK's target wants to raise an interrupt, unless config space says that nobody wants one. */
  #completed(): void {
    if (this.#checked) return;
    this.#checked = true;
    const { config } = this.device;
    const silent =
      (config.read(4, 2) & INTERRUPT_DISABLE) !== 0 && (config.read(this.#msixControl(), 2) & 0x8000) === 0;
    if (!silent && this.#signals === 0) this.#violation("an interrupt that nobody takes: CSTS.CFS");
  }

  #answer(
    socket: UnixSocket,
    { message_id, command, flags }: ReturnType<typeof Header.from>,
    payload: Uint8Array,
    fds: readonly FileDescriptor[],
  ): void {
    if ((flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY) {
      this.#violation("a reply, where nothing was asked");
      return;
    }
    this.#commands[command] = (this.#commands[command] ?? 0) + 1;
    let reply: { readonly payload: Uint8Array; readonly fds?: readonly FileDescriptor[] };
    let errno = 0;
    try {
      reply = this.#execute(command, payload, fds);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      errno = error.errno;
      reply = { payload: new Uint8Array(0) };
    } finally {
      if (command !== Command.DEVICE_SET_IRQS) for (const fd of fds) fd.close();
    }
    if ((flags & HeaderFlag.NO_REPLY) !== 0) return;
    const size = HEADER_SIZE + reply.payload.length;
    const replyFlags = errno === 0 ? HeaderFlag.REPLY : HeaderFlag.REPLY | HeaderFlag.ERROR;
    const bytes = new Uint8Array(size);
    bytes.set(Header.bytes({ message_id, command, size, flags: replyFlags, error: errno }));
    bytes.set(reply.payload, HEADER_SIZE);
    socket.send([bytes], reply.fds ?? [], true);
  }

  #execute(
    command: number,
    payload: Uint8Array,
    fds: readonly FileDescriptor[],
  ): { readonly payload: Uint8Array; readonly fds?: readonly FileDescriptor[] } {
    switch (command) {
      case Command.VERSION:
        // 64 maps, and no word about it.
        return { payload: versionPayload({ max_msg_fds: 8, max_data_xfer_size: 131_072 }) };
      case Command.DEVICE_GET_INFO:
        return { payload: this.#regions.deviceInfo(payload) };
      case Command.DEVICE_GET_REGION_INFO:
        return this.#regions.info(payload);
      case Command.DEVICE_GET_IRQ_INFO:
        return { payload: this.#interrupts.info(payload) };
      case Command.DEVICE_SET_IRQS:
        this.#signals = fds.length;
        this.#interrupts.set(payload, fds);
        return { payload: new Uint8Array(0) };
      case Command.REGION_READ:
      case Command.REGION_WRITE:
        return { payload: this.#access(command, payload) };
      case Command.DMA_MAP:
        this.#map(payload, fds);
        return { payload: new Uint8Array(0) };
      case Command.DMA_UNMAP:
        this.#unmap(payload);
        return { payload: payload.slice(0, DmaUnmap.size) };
      case Command.DEVICE_RESET:
        this.device.barWrite32(0, CC, 0);
        return { payload: new Uint8Array(0) };
      default:
        throw new Refusal(ENOTSUP);
    }
  }

  #access(command: number, payload: Uint8Array): Uint8Array {
    const { region, count, offset } = RegionAccess.from(payload);
    const at = Number(offset);
    if (region === 4 || region === 5) throw new Refusal(EINVAL);
    if (region === 0) {
      if (count !== 4 && count !== 8) throw new Refusal(EINVAL);
      if (at >= DOORBELLS && command === Command.REGION_READ) throw new Refusal(EPERM);
    }
    this.#regions.check(region, offset, count);
    if (command === Command.REGION_WRITE) {
      this.#regions.write(region, at, payload.subarray(RegionAccess.size));
      if (region === 0 && at >= DOORBELLS) this.#completed();
      return payload.slice(0, RegionAccess.size);
    }
    const reply = new Uint8Array(RegionAccess.size + count);
    reply.set(payload.subarray(0, RegionAccess.size));
    this.#regions.read(region, at, reply.subarray(RegionAccess.size));
    return reply;
  }

  #map(payload: Uint8Array, fds: readonly FileDescriptor[]): void {
    const { address, size, offset, flags } = DmaMap.from(payload);
    const [fd] = fds;
    if (fd === undefined || this.#maps.size >= MAXIMUM_MAPS || flags > 3) throw new Refusal(EINVAL);
    for (const [start, { size: length }] of this.#maps) {
      if (address < start + length && start < address + size) throw new Refusal(EINVAL);
    }
    const memory = MappedMemory.file(fd, Number(offset), Number(size));
    this.#maps.set(address, { size, memory });
    this.#most = Math.max(this.#most, this.#maps.size);
    this.device.memory.map(Number(address), Number(size), "read-write", { bytes: memory.bytes });
  }

  #unmap(payload: Uint8Array): void {
    const { address, size, flags } = DmaUnmap.from(payload);
    const found = this.#maps.get(address);
    if (flags !== 0 || found?.size !== size) throw new Refusal(EINVAL);
    if (this.#enabled && this.#holdsQueues(address, size)) this.#violation("queues were unmapped: SPDK crashed");
    this.#maps.delete(address);
    this.device.memory.unmap(Number(address), Number(size));
    found.memory[Symbol.dispose]();
  }

  /** Whether the admin queues lie there. */
  #holdsQueues(address: bigint, size: bigint): boolean {
    return [0x28, 0x30].some((at) => {
      const queue = this.device.barRead64(0, at);
      return queue >= address && queue < address + size;
    });
  }
}

function run(path: string, clients: number): void {
  const listener = UnixListener.listen(path, { backlog: 8 });
  const target = new Target();
  parentPort?.postMessage("ready");
  const seen: Seen[] = [];
  for (let i = 0; i < clients; i++) {
    if (waitReadable([listener.fd], PATIENCE_MS).length === 0) break;
    using socket = listener.accept();
    if (socket !== undefined) seen.push(target.serve(socket));
  }
  listener[Symbol.dispose]();
  parentPort?.postMessage(seen);
}

if (!isMainThread && typeof workerData === "object" && workerData !== null && "spdkTarget" in workerData) {
  run(workerData.spdkTarget as string, workerData.clients as number);
}
