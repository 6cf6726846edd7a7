// What firmware does on a machine that never runs any: bus numbers, addresses for BARs, windows of bridges, virtual functions.
// Then every function is read, so that what lspci is shown looks as on a machine that has booted.
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import type { Machine } from "./machines.ts";
import type { QtestMachine } from "./qtest.ts";

/** A function's place and its config space. */
export interface Found {
  readonly address: PciAddress;
  readonly bytes: Uint8Array;
}

type Space = "io" | "memory" | "prefetchable";

/** What the windows of bridges are counted in. */
const GRANULE: Readonly<Record<Space, bigint>> = { io: 0x1000n, memory: 0x100000n, prefetchable: 0x100000n };
const SLOTS = Array.from({ length: 256 }, (_, slot) => slot);

export async function enumerate(
  machine: QtestMachine,
  { rootBuses = [], virtualFunctions }: Machine,
): Promise<Found[]> {
  const firmware = new Firmware(machine, virtualFunctions);
  await machine.start();
  for (const bus of [0, ...rootBuses]) await firmware.bus(bus);
  const found: Found[] = [];
  for (const bus of [...firmware.buses].toSorted((a, b) => a - b)) {
    for (const slot of await occupied(machine, bus)) {
      const address = new PciAddress(0, bus, slot >> 3, slot & 7);
      found.push({ address, bytes: await machine.read(bus, slot, 0, machine.configSize) });
    }
  }
  return found;
}

/** A virtual function has no ids of its own: it is there if its class is. */
async function occupied(machine: QtestMachine, bus: number): Promise<readonly number[]> {
  const headers = await Promise.all(SLOTS.map((slot) => machine.read(bus, slot, 0, 12)));
  return SLOTS.filter((slot) => headers[slot]?.some((byte) => byte !== 0xff));
}

class Firmware {
  readonly buses: Set<number> = new Set();
  readonly #machine: QtestMachine;
  readonly #virtualFunctions: number | undefined;
  #lastBus = 0;
  readonly #next: Record<Space, bigint> = { io: 0x6000n, memory: 0xc0000000n, prefetchable: 0x800000000n };

  constructor(machine: QtestMachine, virtualFunctions: number | undefined) {
    this.#machine = machine;
    this.#virtualFunctions = virtualFunctions;
  }

  async bus(bus: number): Promise<void> {
    this.buses.add(bus);
    this.#lastBus = Math.max(this.#lastBus, bus);
    const slots = await occupied(this.#machine, bus);
    for (const slot of slots) {
      const [type = 0] = await this.#machine.read(bus, slot, 0x0c, 4).then((bytes) => bytes.subarray(2));
      const isBridge = (type & 0x7f) === 1;
      for (let bar = 0; bar < (isBridge ? 2 : 6); ) bar += await this.#bar(bus, slot, 0x10 + 4 * bar);
      if (isBridge) await this.#bridge(bus, slot);
      await this.#machine.write(bus, slot, 0x04, 2, 0x0507);
      if (this.#virtualFunctions !== undefined) await this.#enableVirtualFunctions(bus, slot);
    }
  }

  /** Returns how many registers the BAR takes. */
  async #bar(bus: number, slot: number, at: number): Promise<1 | 2> {
    const machine = this.#machine;
    const probe = async (offset: number): Promise<number> => {
      await machine.write(bus, slot, offset, 4, 0xffffffff);
      return dword(await machine.read(bus, slot, offset, 4));
    };
    const low = await probe(at);
    if (low === 0) return 1;
    const space = (low & 1) === 1 ? "io" : (low & 8) === 8 ? "prefetchable" : "memory";
    const isWide = space !== "io" && (low & 6) === 4;
    const mask = BigInt((low & (space === "io" ? ~3 : ~15)) >>> 0);
    const all = isWide ? mask | (BigInt(await probe(at + 4)) << 32n) : mask | 0xffffffff00000000n;
    const size = BigInt.asUintN(space === "io" ? 16 : 64, -all);
    const address = this.#allocate(space === "prefetchable" && !isWide ? "memory" : space, size);
    await machine.write(bus, slot, at, 4, Number(address & 0xffffffffn));
    if (isWide) await machine.write(bus, slot, at + 4, 4, Number(address >> 32n));
    return isWide ? 2 : 1;
  }

  #allocate(space: Space, size: bigint): bigint {
    const address = (this.#next[space] + size - 1n) & -size;
    this.#next[space] = address + size;
    return address;
  }

  async #bridge(bus: number, slot: number): Promise<void> {
    const machine = this.#machine;
    const write = (offset: number, width: 1 | 2 | 4, value: bigint): Promise<void> =>
      machine.write(bus, slot, offset, width, Number(value));
    const secondary = this.#lastBus + 1;
    const start = {
      io: this.#aligned("io"),
      memory: this.#aligned("memory"),
      prefetchable: this.#aligned("prefetchable"),
    };
    await write(0x18, 1, BigInt(bus));
    await write(0x19, 1, BigInt(secondary));
    await write(0x1a, 1, 0xffn);
    await this.bus(secondary);
    await write(0x1a, 1, BigInt(this.#lastBus));
    const limit = (space: Space): bigint => {
      const end = this.#aligned(space);
      // A window that holds nothing ends before it begins.
      return end === start[space] ? start[space] - GRANULE[space] : end - 1n;
    };
    const [io, memory, prefetchable] = [limit("io"), limit("memory"), limit("prefetchable")];
    await write(0x1c, 1, (start.io >> 8n) & 0xf0n);
    await write(0x1d, 1, (io >> 8n) & 0xf0n);
    await write(0x20, 2, (start.memory >> 16n) & 0xfff0n);
    await write(0x22, 2, (memory >> 16n) & 0xfff0n);
    await write(0x24, 2, (start.prefetchable >> 16n) & 0xfff0n);
    await write(0x26, 2, (prefetchable >> 16n) & 0xfff0n);
    await write(0x28, 4, start.prefetchable >> 32n);
    await write(0x2c, 4, prefetchable >> 32n);
  }

  /** Rounds up to what a window of a bridge begins at. */
  #aligned(space: Space): bigint {
    const granule = GRANULE[space];
    this.#next[space] = (this.#next[space] + granule - 1n) & -granule;
    return this.#next[space];
  }

  async #enableVirtualFunctions(bus: number, slot: number): Promise<void> {
    const machine = this.#machine;
    for (let at = 0x100; at !== 0; ) {
      const header = dword(await machine.read(bus, slot, at, 4));
      if ((header & 0xffff) === 0x10) {
        await machine.write(bus, slot, at + 0x10, 2, this.#virtualFunctions ?? 0);
        for (let bar = 0; bar < 6; ) bar += await this.#bar(bus, slot, at + 0x24 + 4 * bar);
        await machine.write(bus, slot, at + 0x08, 2, 0x0019);
      }
      at = header === 0xffffffff ? 0 : (header >>> 20) & 0xffc;
    }
  }
}

function dword(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(0, true);
}
