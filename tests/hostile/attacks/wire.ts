// Messages of vfio-user as an attacker writes them, and what they come to in words.
import { createMemoryFile, EventFd, type FileDescriptor } from "../../../packages/ring3/src/linux/index.ts";
import type { FakeClient, FakeMessage } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import {
  Command,
  DmaMap,
  DmaUnmap,
  IrqSet,
  IrqSetFlag,
  Region,
  RegionAccess,
  WireErrno,
} from "../../../packages/ring3/src/vfio-user/messages.ts";

/** How long a service may take for an answer, on a busy machine, between two users as well. */
export const PATIENCE_MS = 60_000;

/** The capability's id. */
export const MSIX = 0x11;

export function access(
  region: number,
  offset: number | bigint,
  count: number,
  data: readonly number[] = [],
): Uint8Array {
  return Uint8Array.of(...RegionAccess.bytes({ offset: BigInt(offset), region, count }), ...data);
}

export function bytesOf(value: number, width: number): number[] {
  return Array.from({ length: width }, (_, i) => (value >>> (8 * i)) & 0xff);
}

export function map(address: number | bigint, size: number | bigint, offset = 0n, flags = 3): Uint8Array {
  return DmaMap.bytes({ argsz: 32, flags, offset, address: BigInt(address), size: BigInt(size) });
}

export function unmap(address: number | bigint, size: number | bigint): Uint8Array {
  return DmaUnmap.bytes({ argsz: 24, flags: 0, address: BigInt(address), size: BigInt(size) });
}

export function irqs(index: number, start: number, count: number, flags: number): Uint8Array {
  return IrqSet.bytes({ argsz: 20, flags, index, start, count });
}

export const SIGNALS: number = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER;

/** `EINVAL` for the number. */
export function nameOf(errno: number): string {
  if (errno === 0) return "done";
  return Object.entries(WireErrno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
}

/** Writes a register of a BAR by message. */
export async function poke(client: FakeClient, offset: number, value: number, bar = 0): Promise<number> {
  return client.errno(Command.REGION_WRITE, access(bar, offset, 4, bytesOf(value, 4)));
}

export async function peek(client: FakeClient, offset: number, bar = 0): Promise<number> {
  return await read32(client, bar, offset);
}

export async function configWrite(client: FakeClient, offset: number, width: number, value: number): Promise<void> {
  await client.errno(Command.REGION_WRITE, access(Region.CONFIG, offset, width, bytesOf(value, width)));
}

export async function configRead(client: FakeClient, offset: number): Promise<number> {
  return await read32(client, Region.CONFIG, offset);
}

async function read32(client: FakeClient, region: number, offset: number): Promise<number> {
  const { payload } = await client.request(Command.REGION_READ, access(region, offset, 4));
  return new DataView(payload.buffer, payload.byteOffset).getUint32(16, true);
}

/** Bytes of a region: 0 where there is none. */
export async function regionSize(client: FakeClient, region: number): Promise<number> {
  const { payload } = await regionInfo(client, region);
  return Number(new DataView(payload.buffer, payload.byteOffset).getBigUint64(16, true));
}

export async function regionInfo(client: FakeClient, region: number): Promise<FakeMessage> {
  const info = Uint8Array.of(...bytesOf(256, 4), ...bytesOf(0, 4), ...bytesOf(region, 4), ...new Uint8Array(20));
  return await client.request(Command.DEVICE_GET_REGION_INFO, info);
}

/** How many vectors of that kind the function has. */
export async function vectorsOf(client: FakeClient, index: number): Promise<number> {
  const info = Uint8Array.of(...bytesOf(16, 4), ...bytesOf(0, 4), ...bytesOf(index, 4), ...bytesOf(0, 4));
  const { payload } = await client.request(Command.DEVICE_GET_IRQ_INFO, info);
  return new DataView(payload.buffer, payload.byteOffset).getUint32(12, true);
}

/** Where MSI-X has its structures, from the config space that is given. */
export function msixPlaces(config: Uint8Array): Record<"table" | "pendingBits", { bar: number; offset: number }> {
  const at = capability(config, MSIX);
  const place = (value: number): { bar: number; offset: number } => ({ bar: value & 7, offset: (value & ~7) >>> 0 });
  return { table: place(word(config, at + 4)), pendingBits: place(word(config, at + 8)) };
}

/** Memory of the attacker's own, by a file. */
export function file(size = 0x4000): FileDescriptor {
  return createMemoryFile(size);
}

export function event(): EventFd {
  return new EventFd();
}

/** The 32-bit word of config space at `offset`. */
export function word(config: Uint8Array, offset: number): number {
  return new DataView(config.buffer, config.byteOffset, config.byteLength).getUint32(offset, true);
}

/** Where a capability of config space lies. Throws where there is none. */
export function capability(config: Uint8Array, id: number): number {
  for (let at = (config[0x34] ?? 0) & 0xfc, left = 48; at !== 0 && left > 0; left--) {
    if (config[at] === id) return at;
    at = (config[at + 1] ?? 0) & 0xfc;
  }
  throw new Error(`the function has no capability 0x${id.toString(16)}`);
}
