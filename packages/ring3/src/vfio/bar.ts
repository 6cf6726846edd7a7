// A BAR by system call (slow, always there), and mapped where the kernel lets it.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { FileIntegers, tryReadAt, tryWriteAt } from "../linux/file-access.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { DeviceWindow } from "../linux/windows.ts";
import type { Arena } from "../memory/arena.ts";
import type { BarIndex, ByteRange } from "../pci/function.ts";
import { type RegionAccess, RegionBar } from "../pci/region-bar.ts";
import type { WindowGate } from "../pci/window-gate.ts";
import type { Region } from "./region.ts";

interface BarParts {
  readonly index: BarIndex;
  readonly kind: "none" | "io" | "memory32" | "memory64";
  readonly prefetchable: boolean;
  readonly region: Region;
  readonly mappable: readonly ByteRange[];
  readonly fd: FileDescriptor;
  readonly arena: Arena;
  readonly gate: WindowGate;
}

export class VfioBar extends RegionBar {
  constructor(parts: BarParts) {
    super({ ...parts, size: parts.region.size }, fileAccess(parts), parts.gate);
  }
}

/** Accesses through the device's file; the kernel says EIO where the BAR does not answer. */
function fileAccess({ index, region, fd, arena }: BarParts): RegionAccess {
  const file = new FileIntegers(fd);
  const base = region.fileOffset;
  const attempt = <T>(access: () => T): T => {
    try {
      return access();
    } catch (error) {
      throw isRing3Error(error) && error.errno === "EIO" ? noAnswer(index) : error;
    }
  };
  const whole = (size: number, result: number): void => {
    if (result !== size) throw noAnswer(index);
  };
  return {
    read: (offset, width) => attempt(() => file.read(base + offset, width)),
    write: (offset, width, value) => attempt(() => file.write(base + offset, width, value)),
    read64: (offset) => attempt(() => file.read64(base + offset)),
    write64: (offset, value) => attempt(() => file.write64(base + offset, value)),
    readInto: (offset, bytes) => whole(bytes.length, tryReadAt(fd, base + offset, bytes)),
    writeFrom: (offset, bytes) => whole(bytes.length, tryWriteAt(fd, base + offset, bytes)),
    window: ({ offset, size }) => DeviceWindow.map(arena, fd, base + offset, size),
  };
}

function noAnswer(index: number): Ring3Error {
  return new Ring3Error(
    "REGION_DISABLED",
    `BAR ${index} does not answer: memory decoding is off, the function sleeps, or it is gone`,
    { errno: "EIO" },
  );
}
