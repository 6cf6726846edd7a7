// The disks of `ring3 serve nvme` and `virtio-blk`: files, memory, or nothing at all.
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import type { BlockBacking } from "ring3/devices";
import { binarySize } from "../text.ts";
import { UsageError } from "../usage-error.ts";

/** Disks in memory up to this size lie in the arena, which is where a device serves them fastest; clients need room there too. */
const ARENA_DISK_BYTES = 2 ** 29;
const PAGE = 4096;

export const DISK_OPTIONS = {
  file: { kind: "texts", short: "f", value: "PATH", description: "a disk in a file or block device" },
  create: {
    kind: "integer",
    value: "SIZE",
    minimum: 512n,
    maximum: 0x1f_ffff_ffff_ffffn,
    description: "make files that do not exist, sparse and of this size",
  },
  memory: {
    kind: "integers",
    value: "SIZE",
    minimum: 512n,
    maximum: 0x1f_ffff_ffff_ffffn,
    description: "a disk in memory, zeroed; gone when the server ends",
  },
  null: {
    kind: "integers",
    value: "SIZE",
    minimum: 512n,
    maximum: 0x1f_ffff_ffff_ffffn,
    description: "a disk that keeps nothing, to measure everything else",
  },
  "read-only": { kind: "flag", description: "refuse writes; several servers may then share a file" },
  shared: {
    kind: "flag",
    description: "let another server hold the same files, for a device that moves there; only one of them may write",
  },
  serial: {
    kind: "text",
    value: "TEXT",
    description: "the serial number, 20 characters at most (default: from the path)",
  },
} as const;

export interface DiskInput {
  readonly file: readonly string[];
  readonly create: bigint | undefined;
  readonly memory: readonly bigint[];
  readonly null: readonly bigint[];
  readonly "read-only": boolean;
  readonly shared: boolean;
}

export interface Disk {
  readonly backing: BlockBacking;
  /** For people: `disk.img, 64 MiB`. */
  readonly description: string;
}

/** Opens the disks in the order files, memory, null; disposal closes the files after what runs on them. */
export async function openDisks(input: DiskInput, resources: AsyncDisposableStack): Promise<Disk[]> {
  const readOnly = input["read-only"];
  if (input.file.length + input.memory.length + input.null.length === 0) {
    throw new UsageError("there is no disk to serve: give --file PATH, --memory SIZE or --null SIZE");
  }
  if (input.create !== undefined && readOnly)
    throw new UsageError("--create makes a file to write to: leave out --read-only");
  if (input.create !== undefined && input.file.length === 0)
    throw new UsageError("--create makes files that do not exist: name them with --file PATH");
  const disks: Disk[] = [];
  if (input.file.length > 0) {
    const { fileBacking } = await import("ring3/linux");
    for (const path of input.file) {
      const createBytes = input.create === undefined ? {} : { createBytes: Number(input.create) };
      const backing = resources.use(fileBacking(path, { readOnly, shared: input.shared, ...createBytes }));
      disks.push({ backing, description: `${path}, ${binarySize(backing.sizeBytes)}` });
    }
  }
  const { memoryBacking, nullBacking } = await import("ring3/devices");
  const { defaultArena } = await import("ring3/linux");
  for (const size of input.memory) {
    const bytes = Number(size);
    const inArena = bytes <= ARENA_DISK_BYTES && bytes % PAGE === 0;
    const backing = memoryBacking(inArena ? resources.use(defaultArena().reserve(bytes)) : bytes);
    disks.push({ backing, description: `memory, ${binarySize(size)}` });
  }
  for (const size of input.null) {
    disks.push({ backing: nullBacking(Number(size)), description: `null, ${binarySize(size)}` });
  }
  return disks;
}

/** A serial number that stays the same from start to start, and differs between disks. */
export function serialNumber(given: string | undefined, input: DiskInput, socket: string): string {
  if (given !== undefined) return given;
  const hash = createHash("sha256").update(resolve(input.file[0] ?? socket));
  return `ring3-${hash.digest("hex").slice(0, 12)}`;
}
