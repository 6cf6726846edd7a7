// Config space through the device's file. The kernel decides what a write reaches; what a write does to the BARs is
// watched by `WatchedConfigAccess`.
import { FileIntegers, readAt } from "../linux/file-access.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { ConfigAccess } from "../pci/config-space.ts";
import { WatchedConfigAccess } from "../pci/watched-config.ts";
import type { WindowGate } from "../pci/window-gate.ts";

export class VfioConfigAccess extends WatchedConfigAccess {
  constructor(fd: FileDescriptor, base: number, size: number, gate: WindowGate) {
    super(fileAccess(fd, base, size), gate);
  }
}

function fileAccess(fd: FileDescriptor, base: number, size: number): Required<ConfigAccess> {
  const file = new FileIntegers(fd);
  return {
    size,
    read: (offset, width) => file.read(base + offset, width),
    write: (offset, width, value) => file.write(base + offset, width, value),
    readBytes: (offset, bytes) => {
      const target = new Uint8Array(bytes);
      readAt(fd, base + offset, target);
      return target;
    },
  };
}
