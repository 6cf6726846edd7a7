// How many bytes each capability takes: what lies behind is a gap, and a gap has rules of its own. PCIe 6.0, chapter 7;
// where the specification leaves it open, as Linux 7 counts.
import { MsiX } from "../pci/capabilities/msi-x.ts";
import { Msi, msiLayout } from "../pci/capabilities/msi.ts";
import type { CapabilityEntry } from "../pci/capability-walk.ts";
import type { ConfigSpace } from "../pci/config-space.ts";

/** Bytes by id, where all capabilities of the id have the same. */
const standardSizes: Readonly<Record<number, number>> = { 0x01: 8, 0x02: 12, 0x03: 8, 0x11: 12, 0x13: 6 };
const extendedSizes: Readonly<Record<number, number>> = {
  0x01: 0x2c,
  0x03: 12,
  0x04: 0x10,
  0x0e: 8,
  0x0f: 8,
  0x10: 0x40,
  0x12: 40,
  0x13: 16,
  0x18: 8,
};

/** Bytes of a capability, from its first on; at least its head. */
export function capabilitySize(config: ConfigSpace, entry: CapabilityEntry): number {
  const { kind, offset } = entry;
  const size = kind === "standard" ? standardSize(config, entry) : extendedSize(config, entry);
  const least = kind === "standard" ? 2 : 4;
  const end = kind === "standard" ? 0x100 : config.size;
  return Math.min(Math.max(size, least), end - offset);
}

function standardSize(config: ConfigSpace, { id, offset }: CapabilityEntry): number {
  const byte = (at: number): number => (offset + at < config.size ? config.read8(offset + at) : 0);
  const word = (at: number): number => byte(at) | (byte(at + 1) << 8);
  switch (id) {
    case Msi.id:
      return msiLayout(word(2)).size;
    case MsiX.id:
      return 12;
    case 0x07:
      return ((word(2) >>> 12) & 3) === 0 ? 8 : 24;
    case 0x08:
      return (byte(3) & 0xe0) === 0 ? 28 : 24;
    case 0x09:
      return byte(2);
    case 0x10: {
      // Without a link, an integrated endpoint has less.
      const integrated = ((word(2) >>> 4) & 0xf) === 9;
      if ((word(2) & 0xf) === 1) return integrated ? 0x0c : 0x14;
      return integrated ? 0x2c : 0x34;
    }
    case 0x12:
      return (byte(4) & 0xf) === 0xf ? 16 : 8;
    default:
      return standardSizes[id] ?? 0;
  }
}

function extendedSize(config: ConfigSpace, { id, offset }: CapabilityEntry): number {
  const dword = (at: number): number => (offset + at + 4 <= config.size ? config.read32(offset + at) : 0);
  switch (id) {
    case 0x02:
    case 0x08:
    case 0x09: {
      const arbitration = dword(8);
      const phases = (arbitration & 8) !== 0 ? 128 : (arbitration & 4) !== 0 ? 64 : (arbitration & 2) !== 0 ? 32 : 0;
      const channels = 0x10 + (1 + (dword(4) & 7)) * 12;
      return phases === 0 ? channels : Math.ceil(channels / 16) * 16 + phases / 2;
    }
    case 0x0b:
    case 0x23:
      return dword(4) >>> 20;
    case 0x0d: {
      if ((dword(4) & 0x20) === 0) return 8;
      const bits = (dword(4) >>> 8) & 0xff;
      return 8 + (bits === 0 ? 256 : Math.ceil(bits / 32) * 32) / 8;
    }
    case 0x15:
      return 4 + ((dword(8) >>> 5) & 7) * 8;
    case 0x16:
      return 16 + (dword(4) & 0x1f) + 1;
    case 0x17: {
      const inCapability = ((dword(4) >>> 9) & 3) === 1;
      return inCapability ? 12 + ((dword(4) >>> 16) & 0x7ff) * 2 + 2 : 12;
    }
    default:
      return extendedSizes[id] ?? 0;
  }
}
