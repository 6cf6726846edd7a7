// Config space of a fake function: bytes, a mask of writable bits, and what acts when written (COMMAND, BARs, PM, FLR).
import type { ConfigAccess } from "../../packages/ring3/src/pci/config-space.ts";

export const CONFIG_OFFSETS = { COMMAND: 0x04, BARS: 0x10, PM: 0x40, EXPRESS: 0x50, MSIX: 0x90, MSI: 0xa0 } as const;

export interface FakeConfigOptions {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly revision: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  readonly interruptPin: boolean;
  readonly msi: number;
  readonly msix: number;
  /** Size and type bits of each BAR, in order; the upper half of a 64-bit one is left out. */
  readonly bars: readonly { readonly index: number; readonly size: number; readonly flags: number }[];
}

export interface FakeConfigHooks {
  /** Throws where config space cannot be reached. */
  check(): void;
  command(value: number): void;
  power(state: number): void;
}

/** Builds the bytes and their access. */
export function fakeConfig(
  options: FakeConfigOptions,
  hooks: FakeConfigHooks,
): { access: ConfigAccess; bytes: Uint8Array } {
  const bytes = new Uint8Array(4096);
  const writable = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const masks = new DataView(writable.buffer);
  view.setUint16(0, options.vendorId, true);
  view.setUint16(2, options.deviceId, true);
  view.setUint16(4, 2, true);
  masks.setUint16(4, 0x0547, true);
  view.setUint16(6, 0x10, true);
  view.setUint32(8, options.classCode * 256 + options.revision, true);
  view.setUint16(0x2c, options.subsystemVendorId, true);
  view.setUint16(0x2e, options.subsystemId, true);
  bytes[0x3d] = options.interruptPin ? 1 : 0;
  writable[0x3c] = 0xff;
  for (const { index, size, flags } of options.bars) {
    const at = CONFIG_OFFSETS.BARS + 4 * index;
    view.setUint32(at, 0xe000_0000 + index * 0x0100_0000 + flags, true);
    masks.setUint32(at, -size >>> 0, true);
    if ((flags & 7) === 4) masks.setUint32(at + 4, 0xffff_ffff, true);
  }
  const capability = (at: number, id: number, next: number): void => {
    bytes[at] = id;
    bytes[at + 1] = next;
  };
  bytes[0x34] = CONFIG_OFFSETS.PM;
  capability(CONFIG_OFFSETS.PM, 1, CONFIG_OFFSETS.EXPRESS);
  view.setUint16(CONFIG_OFFSETS.PM + 2, 3, true);
  writable[CONFIG_OFFSETS.PM + 4] = 3;
  capability(
    CONFIG_OFFSETS.EXPRESS,
    0x10,
    options.msix > 0 ? CONFIG_OFFSETS.MSIX : options.msi > 0 ? CONFIG_OFFSETS.MSI : 0,
  );
  view.setUint16(CONFIG_OFFSETS.EXPRESS + 2, 2, true);
  view.setUint32(CONFIG_OFFSETS.EXPRESS + 4, 1 << 28, true);
  if (options.msix > 0) {
    capability(CONFIG_OFFSETS.MSIX, 0x11, options.msi > 0 ? CONFIG_OFFSETS.MSI : 0);
    view.setUint16(CONFIG_OFFSETS.MSIX + 2, options.msix - 1, true);
  }
  if (options.msi > 0) {
    capability(CONFIG_OFFSETS.MSI, 5, 0);
    view.setUint16(CONFIG_OFFSETS.MSI + 2, Math.log2(options.msi) << 1, true);
  }
  const access: ConfigAccess = {
    size: bytes.length,
    read(offset, width) {
      hooks.check();
      if (width === 4) return view.getUint32(offset, true);
      return width === 2 ? view.getUint16(offset, true) : (bytes[offset] ?? 0);
    },
    write(offset, width, value) {
      hooks.check();
      for (let i = 0; i < width; i++) {
        const mask = writable[offset + i] ?? 0;
        bytes[offset + i] = ((bytes[offset + i] ?? 0) & ~mask) | (Math.floor(value / 256 ** i) & mask);
      }
      const covers = (at: number): boolean => at >= offset && at < offset + width;
      if (covers(CONFIG_OFFSETS.COMMAND)) hooks.command(view.getUint16(CONFIG_OFFSETS.COMMAND, true));
      if (covers(CONFIG_OFFSETS.PM + 4)) hooks.power((bytes[CONFIG_OFFSETS.PM + 4] ?? 0) & 3);
    },
  };
  return { access, bytes };
}
