// What the server's tests serve: a function with registers, mappable memory, every kind of interrupt, and a DMA engine
// that does what it is told at once.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BarIndex } from "../pci/function.ts";
import { msi, msix, type StateRecord, VirtualFunction } from "../virtual/index.ts";
import { type FunctionServer, serve } from "./server.ts";
import type { ServeOptions, ServerEvent } from "./server-options.ts";

/** Registers of BAR 0 that do something; the others hold what was written. */
export const Register = { ADDRESS: 0x100, READ: 0x108, WRITE: 0x10c, DATA: 0x110, RAISE: 0x114, LEVEL: 0x118 } as const;
const BAR0_BYTES = 4096;

export class ServedTestDevice extends VirtualFunction {
  readonly words: Uint32Array = new Uint32Array(BAR0_BYTES / 4);
  /** Every access to BAR 0, as `r4 10` or `w2 100=ffff`. */
  readonly log: string[] = [];
  readonly bytes: Uint8Array = new Uint8Array(8192);
  resets = 0;
  /** What `poll` finds. */
  work = 0;
  suspended = false;
  suspending: Promise<void> | undefined;

  constructor(options: { readonly polled?: boolean } = {}) {
    super({
      name: "served",
      vendorId: 0x1234,
      deviceId: 0x5678,
      classCode: 0xff0000,
      modelVersion: 3,
      interruptPin: "A",
      rom: Uint8Array.of(0x55, 0xaa, 7),
      bars: {
        0: {
          size: BAR0_BYTES,
          ioEventFds: [
            { offset: 0x40, size: 4, value: 0x11n },
            { offset: 0x44, size: 4, match: 0x22n },
            { offset: 0x48, size: 4, shadow: true },
          ],
        },
        1: { size: 64, kind: "io", read8: (offset) => offset },
        2: {
          size: 0x4000,
          memory: [
            { offset: 0x1000, size: 0x1000 },
            { offset: 0x3000, size: 0x1000 },
          ],
        },
        3: { size: 0x1000, memory: true },
        4: { size: 0x2000, kind: "memory64" },
      },
      capabilities: [
        msi({ vectors: 4 }),
        msix({ vectors: 40, table: { bar: 4 }, pendingBits: { bar: 4, offset: 0x1000 } }),
      ],
    });
    if (options.polled === true) this.poll = () => this.#found();
  }

  protected override read32(bar: BarIndex, offset: number): number {
    if (bar !== 0) return 0;
    this.log.push(`r4 ${offset.toString(16)}`);
    return this.words[offset / 4] as number;
  }

  protected override write32(bar: BarIndex, offset: number, value: number): void {
    if (bar !== 0) return;
    this.log.push(`w4 ${offset.toString(16)}=${value.toString(16)}`);
    this.words[offset / 4] = value;
    const address =
      (this.words[Register.ADDRESS / 4] as number) + (this.words[Register.ADDRESS / 4 + 1] as number) * 2 ** 32;
    if (offset === Register.READ) {
      this.memory.read(address, this.bytes.subarray(0, value));
      this.words[Register.DATA / 4] = new DataView(this.bytes.buffer).getUint32(0, true);
    } else if (offset === Register.WRITE) this.memory.write(address, this.bytes.subarray(0, value));
    else if (offset === Register.RAISE) this.interrupts.raise(value);
    else if (offset === Register.LEVEL) this.interrupts.level(value !== 0);
  }

  protected override onReset(): void {
    this.resets++;
    this.words.fill(0);
  }

  protected override async onSuspend(): Promise<void> {
    await this.suspending;
    this.suspended = true;
  }

  protected override onResume(): void {
    this.suspended = false;
  }

  protected override saveDevice(): StateRecord {
    return { words: new Uint8Array(this.words.buffer.slice(0)) };
  }

  protected override restoreDevice(state: StateRecord): void {
    const { words } = state;
    if (words instanceof Uint8Array) new Uint8Array(this.words.buffer).set(words);
  }

  #found(): number {
    const { work } = this;
    this.work = 0;
    return work;
  }
}

/** A served device in a directory of its own. */
export interface Served extends AsyncDisposable {
  readonly device: ServedTestDevice;
  readonly server: FunctionServer;
  readonly events: ServerEvent[];
  readonly path: string;
  readonly directory: string;
}

export async function serveTestDevice(
  options: ServeOptions = {},
  device: ServedTestDevice = new ServedTestDevice(),
): Promise<Served> {
  const directory = mkdtempSync(join(tmpdir(), "ring3-server-"));
  const path = join(directory, "s");
  const events: ServerEvent[] = [];
  const server = await serve(device, path, { onEvent: (event) => events.push(event), ...options });
  return {
    device,
    server,
    events,
    path,
    directory,
    [Symbol.asyncDispose]: async () => {
      await server.close();
      device[Symbol.dispose]();
      rmSync(directory, { recursive: true });
    },
  };
}

export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
