// One of every device of ring3, as the hostile tests use them.
import { EduDevice } from "../../packages/ring3/src/devices/edu/index.ts";
import { type BlockBacking, memoryBacking, NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import { EthernetSwitch, type NetLink, VirtioBlock, VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import type { Arena } from "../../packages/ring3/src/memory/arena.ts";
import type { VirtualFunction } from "../../packages/ring3/src/virtual/index.ts";
import { bootableDisk } from "../served/boot-sector.ts";

/** What is served, by the socket's name. `bystander` is for a client that behaves. */
export const DEVICES = ["edu", "nvme", "nvme-polled", "virtio-blk", "virtio-net"] as const;

const DISK_BYTES = 8 << 20;

/** A disk whose operations end in a later turn, so that resets and unmaps meet commands in flight. */
function laterBacking(size: number): BlockBacking {
  const memory = memoryBacking(size);
  const later = (act: () => void): Promise<void> =>
    new Promise((resolve) =>
      setImmediate(() => {
        act();
        resolve();
      }),
    );
  return {
    sizeBytes: size,
    read: (offset, target, cancellation) =>
      later(() => {
        if (cancellation?.aborted !== true) void memory.read(offset, target);
      }),
    write: (offset, source) => {
      const copy = source.slice();
      return later(() => void memory.write(offset, copy));
    },
    flush: () => later(() => undefined),
    discard: (offset, length) => later(() => void memory.discard?.(offset, length)),
    zero: (offset, length) => later(() => void memory.zero?.(offset, length)),
  };
}

/** A neighbour that sends everything back to its sender. */
function echoAt(port: NetLink): void {
  port.attach({
    receive: (frame) => {
      const back = frame.slice();
      back.copyWithin(0, 6, 12);
      back.set([0x52, 0x54, 0, 0, 0, 0xec], 6);
      return port.send(back);
    },
    linkChanged: () => undefined,
    writable: () => undefined,
  });
}

/** One of each; disks in memory, the network with an echo. */
export function makeDevices(arena?: Arena): Map<string, VirtualFunction> {
  const place = arena === undefined ? {} : { arena };
  const cables = new EthernetSwitch();
  echoAt(cables.port("echo"));
  const disk = (): BlockBacking => memoryBacking(bootableDisk(DISK_BYTES, "recorded"));
  const namespaces = [{ backing: disk() }, { backing: laterBacking(DISK_BYTES), blockSize: 4096 }] as const;
  return new Map<string, VirtualFunction>([
    ["edu", new EduDevice()],
    ["nvme", new NvmeDevice({ namespaces, ...place })],
    [
      "nvme-polled",
      new NvmeDevice({ namespaces: [{ backing: disk() }], mappableDoorbells: true, ioQueues: 4, ...place }),
    ],
    ["virtio-blk", new VirtioBlock({ backing: disk(), queues: 2 })],
    ["virtio-net", new VirtioNet({ link: cables.port("a"), queuePairs: 2 })],
    ["bystander", new EduDevice({ name: "bystander" })],
  ]);
}
