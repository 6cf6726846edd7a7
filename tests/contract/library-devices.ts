// The devices that come with the library, as the contracts want them: how to make each, in this process or in another, how
// to have it work by registers alone (a driver would recover by itself and hide what is tested), and how to see that it did.
import type { BarIndex, DmaBuffer, PciFunction } from "../../packages/ring3/src/pci/function.ts";
import { Edu, EduBuffer, EduDma } from "../../packages/ring3/src/specs/edu/registers.ts";
import { AdminOpcode } from "../../packages/ring3/src/specs/nvme/commands.ts";
import { Nvme } from "../../packages/ring3/src/specs/nvme/registers.ts";
import { NvmeHost } from "../fakes/nvme-host.ts";
import type { ContractFixture } from "./fixture.ts";
import type { DeviceFixture } from "./virtual-function.ts";

/** What the contracts need of a device, wherever it is. */
export interface LibraryDevice {
  readonly name: string;
  /** The module that exports the device, and an expression that makes it; the module's exports are in `device`. */
  readonly module: URL;
  readonly create: string;
  readonly work: DeviceFixture["work"];
  readonly worked: DeviceFixture["worked"];
  readonly registers: NonNullable<DeviceFixture["registers"]>;
  readonly below?: number;
  readonly constant: NonNullable<ContractFixture["constant"]>;
  readonly scratch?: NonNullable<ContractFixture["scratch"]>;
  readonly copy?: (fn: PciFunction, source: number, target: number, size: number) => Promise<void>;
}

const devices = new URL("../../packages/ring3/src/devices/", import.meta.url);
/** Turns of the event loop before a device in this process is given up, and time for one in another. */
const TURNS = 16;
const PATIENCE_MS = 250;

/** Waits until `done`, or until the device had every chance. */
async function waitFor(fn: PciFunction, done: () => boolean): Promise<void> {
  const patienceMs = fn.identity.backend === "virtual" ? 0 : PATIENCE_MS;
  const started = performance.now();
  for (let turn = 0; !done() && (turn < TURNS || performance.now() - started < patienceMs); turn++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function eduTransfer(fn: PciFunction, from: number, to: number, size: number, command: number): Promise<void> {
  const bar = fn.bar(0);
  bar.write64(Edu.DMA_SOURCE, BigInt(from));
  bar.write64(Edu.DMA_DESTINATION, BigInt(to));
  bar.write64(Edu.DMA_COUNT, BigInt(size));
  bar.write64(Edu.DMA_COMMAND, BigInt(EduDma.START.mask | command));
  await waitFor(fn, () => (bar.read64(Edu.DMA_COMMAND) & BigInt(EduDma.START.mask)) === 0n);
}

const edu: LibraryDevice = {
  name: "edu",
  module: new URL("edu/index.ts", devices),
  create: "new device.EduDevice()",
  below: 2 ** 28,
  async work(fn, buffer) {
    fn.bar(0).write32(Edu.FACTORIAL, 5);
    using source = fn.dma.allocate(4096, { below: 2 ** 28 });
    source.bytes.fill(0x21);
    await eduTransfer(fn, source.iova, EduBuffer.ADDRESS, 4096, 0);
    await eduTransfer(fn, EduBuffer.ADDRESS, buffer.iova, 4096, EduDma.TO_MEMORY.mask);
  },
  worked: ({ bytes }) => bytes.every((byte) => byte === 0x21),
  registers: [
    { bar: 0, offset: Edu.LIVENESS, write: 1 },
    { bar: 0, offset: Edu.STATUS, write: 0x80 },
    { bar: 0, offset: Edu.INTERRUPT_STATUS },
    { bar: 0, offset: Edu.DMA_SOURCE, write: 7 },
  ],
  constant: { bar: 0, offset: Edu.IDENTIFICATION },
  async copy(fn, source, target, size) {
    await eduTransfer(fn, source, EduBuffer.ADDRESS, size, 0);
    await eduTransfer(fn, EduBuffer.ADDRESS, target, size, EduDma.TO_MEMORY.mask);
  },
};

function nvme(mappableDoorbells: boolean): LibraryDevice {
  const options = `{ namespaces: [{ backing: device.memoryBacking(2 ** 20) }], mappableDoorbells: ${mappableDoorbells}, serialNumber: "contract" }`;
  return {
    name: `nvme, doorbells ${mappableDoorbells ? "mapped" : "trapped"}`,
    module: new URL("nvme/index.ts", devices),
    create: `new device.NvmeDevice(${options})`,
    // Identify controller: 4096 bytes.
    async work(fn, buffer) {
      fn.bar(0).write32(Nvme.CC, 0);
      const host = new NvmeHost(fn);
      host.enable();
      await host.ok({ opcode: AdminOpcode.IDENTIFY, cdw10: 1, prp1: buffer.iova });
    },
    worked: ({ bytes }) => new TextDecoder().decode(bytes.slice(4, 12)) === "contract",
    registers: [
      { bar: 0, offset: Nvme.AQA, write: 0x001f_001f },
      { bar: 0, offset: Nvme.ASQ_LOW, write: 0x1000 },
      { bar: 0, offset: Nvme.CC },
      { bar: 0, offset: Nvme.CSTS },
      { bar: 0, offset: Nvme.INTMS },
    ],
    constant: { bar: 0, offset: Nvme.VS },
    scratch: { bar: 0, offset: Nvme.ASQ_LOW, mask: 0xffff_f000 },
  };
}

/** Offsets of virtio's structures in the one BAR: virtio 1.3, section 4.1.4.3, as the models place them. */
const Virtio = {
  FEATURE_SELECT: 0x08,
  FEATURE: 0x0c,
  STATUS: 0x14,
  SELECT: 0x16,
  SIZE: 0x18,
  ENABLE: 0x1c,
  AREAS: 0x20,
  DEVICE_CONFIG: 0x2000,
  NOTIFY: 0x3000,
} as const;
const PATTERN = 0x6b;
const QUEUE_ENTRIES = 8;

/** A split ring in a page of its own: descriptors, the available ring, the used ring. */
class ContractRing {
  readonly #fn: PciFunction;
  readonly #index: number;
  readonly #page: DmaBuffer;
  readonly #view: DataView;
  readonly #at: number;
  #descriptors = 0;

  /** The ring of queue `index` from byte `at` of `page` on. */
  constructor(fn: PciFunction, index: number, page: DmaBuffer, at: number) {
    this.#fn = fn;
    this.#index = index;
    this.#page = page;
    this.#at = at;
    this.#view = new DataView(page.bytes.buffer, page.bytes.byteOffset, 4096);
    const bar = fn.bar(0);
    bar.write16(Virtio.SELECT, index);
    bar.write16(Virtio.SIZE, QUEUE_ENTRIES);
    for (const [area, offset] of [0, 0x100, 0x200].entries()) {
      bar.write32(Virtio.AREAS + 8 * area, (page.iova + at + offset) % 2 ** 32);
      bar.write32(Virtio.AREAS + 8 * area + 4, Math.floor((page.iova + at + offset) / 2 ** 32));
    }
    bar.write16(Virtio.ENABLE, 1);
  }

  /** Makes a chain available: address, length, and whether the device writes it. */
  add(...chain: readonly (readonly [iova: number, size: number, written: boolean])[]): void {
    const head = this.#descriptors;
    for (const [i, [iova, size, written]] of chain.entries()) {
      const at = this.#at + 16 * this.#descriptors++;
      this.#view.setBigUint64(at, BigInt(iova), true);
      this.#view.setUint32(at + 8, size, true);
      this.#view.setUint16(at + 12, (written ? 2 : 0) | (i + 1 < chain.length ? 1 : 0), true);
      this.#view.setUint16(at + 14, this.#descriptors, true);
    }
    const available = this.#at + 0x100;
    const index = this.#view.getUint16(available + 2, true);
    this.#view.setUint16(available + 4 + 2 * (index % QUEUE_ENTRIES), head, true);
    this.#view.setUint16(available + 2, index + 1, true);
  }

  notify(): void {
    this.#fn.bar(0).write16(Virtio.NOTIFY, this.#index);
  }

  get used(): number {
    return new DataView(this.#page.bytes.buffer, this.#page.bytes.byteOffset).getUint16(this.#at + 0x202, true);
  }
}

function negotiate(fn: PciFunction): void {
  const bar = fn.bar(0);
  bar.write8(Virtio.STATUS, 0);
  bar.write8(Virtio.STATUS, 3);
  // VERSION_1 alone.
  bar.write32(Virtio.FEATURE_SELECT, 1);
  bar.write32(Virtio.FEATURE, 1);
  bar.write8(Virtio.STATUS, 11);
}

const virtioRegisters = [
  { bar: 0 as BarIndex, offset: 0x00, write: 1 },
  { bar: 0 as BarIndex, offset: 0x08, write: 1 },
  { bar: 0 as BarIndex, offset: 0x0c, write: 1 },
  { bar: 0 as BarIndex, offset: 0x14 },
  { bar: 0 as BarIndex, offset: 0x18, write: 0xffff_0008 },
  { bar: 0 as BarIndex, offset: 0x20, write: 0x1000 },
];
const virtioScratch = { bar: 0, offset: Virtio.FEATURE_SELECT, mask: 0xffff_ffff } as const;

const virtioBlk: LibraryDevice = {
  name: "virtio-blk",
  module: new URL("virtio/index.ts", devices),
  create: `new device.VirtioBlock({ backing: device.memoryBacking(new Uint8Array(65536).fill(${PATTERN})) })`,
  // Reads eight sectors.
  async work(fn, buffer) {
    using page = fn.dma.allocate(4096);
    negotiate(fn);
    const ring = new ContractRing(fn, 0, page, 0);
    ring.add([page.iova + 0x400, 16, false], [buffer.iova, 4096, true], [page.iova + 0x500, 1, true]);
    fn.bar(0).write8(Virtio.STATUS, 15);
    ring.notify();
    await waitFor(fn, () => ring.used === 1);
    fn.bar(0).write8(Virtio.STATUS, 0);
  },
  worked: ({ bytes }) => bytes.every((byte) => byte === PATTERN),
  registers: [...virtioRegisters, { bar: 0, offset: Virtio.DEVICE_CONFIG + 0x20 }],
  constant: { bar: 0, offset: Virtio.DEVICE_CONFIG },
  scratch: virtioScratch,
};

/** Frames of these sizes and their headers of 12 bytes fill a page. */
const FRAME_BYTES = [1500, 1500, 1060] as const;
const NET_HEADER_BYTES = 12;

const virtioNet: LibraryDevice = {
  name: "virtio-net",
  module: new URL("virtio/index.ts", devices),
  // A cable whose other end sends back what comes.
  create: `(() => {
    let receiver;
    const link = {
      up: true,
      congested: false,
      send(frame) { const copy = frame.slice(); setImmediate(() => receiver?.receive(copy)); return true; },
      attach(other) { receiver = other; },
    };
    return new device.VirtioNet({ mac: "52:54:00:00:00:01", link });
  })()`,
  async work(fn, buffer) {
    using page = fn.dma.allocate(4096);
    using frame = fn.dma.allocate(4096);
    frame.bytes.fill(PATTERN);
    // To everybody, so that the filter lets it in again.
    frame.bytes.fill(0, 0, NET_HEADER_BYTES);
    frame.bytes.fill(0xff, NET_HEADER_BYTES, NET_HEADER_BYTES + 6);
    negotiate(fn);
    const receive = new ContractRing(fn, 0, page, 0);
    const send = new ContractRing(fn, 1, page, 0x400);
    let at = buffer.iova;
    for (const size of FRAME_BYTES) {
      receive.add([at, NET_HEADER_BYTES + size, true]);
      send.add([frame.iova, NET_HEADER_BYTES + size, false]);
      at += NET_HEADER_BYTES + size;
    }
    fn.bar(0).write8(Virtio.STATUS, 15);
    receive.notify();
    send.notify();
    await waitFor(fn, () => receive.used === FRAME_BYTES.length);
    fn.bar(0).write8(Virtio.STATUS, 0);
  },
  worked: ({ bytes }) => {
    let at = 0;
    return FRAME_BYTES.every((size) => {
      const payload = bytes.subarray(at + NET_HEADER_BYTES + 6, at + NET_HEADER_BYTES + size);
      at += NET_HEADER_BYTES + size;
      return payload.every((byte) => byte === PATTERN);
    });
  },
  registers: virtioRegisters,
  constant: { bar: 0, offset: Virtio.DEVICE_CONFIG },
  scratch: virtioScratch,
};

/** Every device of the library. */
export const libraryDevices: readonly LibraryDevice[] = [edu, nvme(false), nvme(true), virtioBlk, virtioNet];
