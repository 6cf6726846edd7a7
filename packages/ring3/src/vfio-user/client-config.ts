// Config space by messages. Here lies also what a kernel would do for its user: after a reset through config space, a way
// back from D3hot or a server that came back, the header is written as the driver had it.
import { Ring3Error } from "../binary/error.ts";
import { errnoName } from "../linux/errno.ts";
import type { ConfigAccess } from "../pci/config-space.ts";
import type { ActingRegisters } from "../pci/watched-config.ts";
import type { ServedDevice } from "./client-device.ts";
import { Region } from "./messages.ts";

const COMMAND = 0x04;
const BUS_MASTER = 1 << 2;
/** What of COMMAND's two bytes comes back after a reset: I/O and memory decoding, and no line interrupts. */
const KEPT_BY_RESET = [0x03, 0x04] as const;
/** Header bytes that are worth having back: COMMAND, cache line and latency, BARs, the ROM's, the interrupt line. */
const restorable = (offset: number): boolean =>
  offset === COMMAND ||
  offset === COMMAND + 1 ||
  offset === 0x0c ||
  offset === 0x0d ||
  (offset >= 0x10 && offset < 0x28) ||
  (offset >= 0x30 && offset < 0x34) ||
  offset === 0x3c;
const HEADER_BYTES = 64;

export class ServedConfig implements Required<ConfigAccess> {
  readonly size: number;
  readonly #device: ServedDevice;
  /** What was written to the bytes that are restored. */
  readonly #written: Map<number, number> = new Map();
  #acting: ActingRegisters = { powerState: undefined, resets: [] };
  #busMaster = false;

  constructor(device: ServedDevice, size: number) {
    this.#device = device;
    this.size = size;
  }

  /** COMMAND.BUS_MASTER as it was last seen, without asking. */
  get busMaster(): boolean {
    return this.#busMaster;
  }

  /** Others have set the function up: what the header says now comes back after a reset, as if it had been written here. */
  adopt(): void {
    for (const [offset, byte] of this.readBytes(0, HEADER_BYTES).entries()) this.#remember(offset, 1, byte);
  }

  /** Learns which writes reset the function. */
  watch(acting: ActingRegisters): void {
    this.#acting = acting;
  }

  read(offset: number, width: 1 | 2 | 4): number {
    const value = this.#device.tryRead(Region.CONFIG, offset, width);
    if (value < 0) throw refused("read", offset, -value);
    if (offset === COMMAND) this.#busMaster = (value & BUS_MASTER) !== 0;
    return value;
  }

  readBytes(offset: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    const result = this.#device.tryReadInto(Region.CONFIG, offset, bytes);
    if (result < 0) throw refused("read", offset, -result);
    return bytes;
  }

  write(offset: number, width: 1 | 2 | 4, value: number): void {
    const result = this.#device.tryWrite(Region.CONFIG, offset, width, value);
    if (result < 0) throw refused("write", offset, -result);
    this.#remember(offset, width, value);
    const byteAt = (place: number): number | undefined =>
      place >= offset && place < offset + width ? (value >>> (8 * (place - offset))) & 0xff : undefined;
    const { powerState, resets } = this.#acting;
    const power = powerState === undefined ? undefined : byteAt(powerState);
    if (resets.some(({ offset: at, mask }) => ((byteAt(at) ?? 0) & mask) !== 0)) this.restoreAfterReset();
    // The way back to D0 may have been a reset, which a kernel hides from its users.
    else if (power !== undefined && (power & 3) === 0) this.restore();
  }

  /** As {@link restore}, where bus mastering and everything else that COMMAND switches on is to be off, as after any reset. */
  restoreAfterReset(): void {
    for (const [i, kept] of KEPT_BY_RESET.entries()) {
      const written = this.#written.get(COMMAND + i);
      if (written !== undefined) this.#written.set(COMMAND + i, written & kept);
    }
    this.restore();
  }

  /** Writes what the driver had written where the function has forgotten it. COMMAND comes last, as it switches on. */
  restore(): void {
    const now = this.readBytes(0, HEADER_BYTES);
    const offsets = [...this.#written.keys()].sort((a, b) => b - a);
    for (const offset of offsets) {
      const value = this.#written.get(offset) ?? 0;
      if (offset === COMMAND || offset === COMMAND + 1 || now[offset] === value) continue;
      // BARs take words only; the bytes of one were all written together or stay as they are.
      const word = offset - (offset % 4);
      const bytes = [0, 1, 2, 3].map((i) => this.#written.get(word + i) ?? now[word + i] ?? 0);
      const result = this.#device.tryWrite(Region.CONFIG, word, 4, word32(bytes));
      if (result < 0) throw refused("restore", word, -result);
      for (let i = 0; i < 4; i++) now[word + i] = bytes[i] ?? 0;
    }
    const low = this.#written.get(COMMAND) ?? now[COMMAND] ?? 0;
    const high = this.#written.get(COMMAND + 1) ?? now[COMMAND + 1] ?? 0;
    if (low !== now[COMMAND] || high !== now[COMMAND + 1]) {
      const result = this.#device.tryWrite(Region.CONFIG, COMMAND, 2, low | (high << 8));
      if (result < 0) throw refused("restore", COMMAND, -result);
    }
    this.#busMaster = (low & BUS_MASTER) !== 0;
  }

  /** Whether a server's config space has the COMMAND that was last written: it kept the function's state. */
  keptBy(device: ServedDevice): boolean {
    const low = this.#written.get(COMMAND);
    return low === undefined || device.tryRead(Region.CONFIG, COMMAND, 1) === low;
  }

  #remember(offset: number, width: number, value: number): void {
    for (let i = 0; i < width; i++) {
      const byte = (value >>> (8 * i)) & 0xff;
      if (offset + i === COMMAND) this.#busMaster = (byte & BUS_MASTER) !== 0;
      if (restorable(offset + i)) this.#written.set(offset + i, byte);
    }
  }
}

function word32(bytes: readonly number[]): number {
  return bytes.reduce((word, byte, i) => (word | (byte << (8 * i))) >>> 0, 0);
}

function refused(what: string, offset: number, errno: number): Ring3Error {
  return new Ring3Error(
    "CONFIG_REFUSED",
    `the vfio-user server does not ${what} config space at 0x${offset.toString(16)} (${errnoName(errno)})`,
    { errno: errnoName(errno), call: what === "read" ? "REGION_READ" : "REGION_WRITE" },
  );
}
