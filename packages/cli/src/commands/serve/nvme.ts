// ring3 serve nvme: an NVMe controller whose namespaces are files, memory or nothing.
import { type Command, command } from "../../command.ts";
import { DISK_OPTIONS, openDisks, serialNumber } from "../../serve/disks.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";
import { UsageError } from "../../usage-error.ts";

export const nvme: Command = command({
  summary: "serve an NVMe disk from files or memory",
  description:
    "Each --file, --memory and --null is a namespace, numbered from 1 in that order. A write is in the file before it is " +
    "reported, a flush puts it on the medium.",
  operands: [],
  options: {
    ...DISK_OPTIONS,
    "block-size": {
      kind: "integers",
      value: "BYTES",
      description: "512 (default) or 4096: once for all namespaces, or once for each",
    },
    queues: {
      kind: "integer",
      value: "N",
      minimum: 1n,
      maximum: 64n,
      initial: 64n,
      description: "pairs of I/O queues",
    },
    "mappable-doorbells": {
      kind: "flag",
      description: "doorbells in shared memory, which are polled: faster for drivers in user space, slower for QEMU",
    },
    ...SERVER_OPTIONS,
  },
  examples: [
    {
      command: "ring3 serve nvme --file disk.img --socket /tmp/disk.sock",
      text: "then: ring3 nvme identify vfio-user:/tmp/disk.sock",
    },
    {
      command: "ring3 serve nvme --file new.img --create 8G --socket /tmp/disk.sock",
      text: "make the file if need be",
    },
    {
      command: "ring3 serve nvme --file a.img --memory 1G --block-size 512 --block-size 4096 --socket /tmp/two.sock",
      text: "two namespaces",
    },
    { command: "ring3 serve nvme --null 1T --mappable-doorbells --socket /tmp/null.sock", text: "for measuring" },
  ],
  run: async ({ options }, context) => {
    const path = socketPath(options.socket);
    const settings = await serverSettings(options, context);
    await using resources = new AsyncDisposableStack();
    const disks = await openDisks(options, resources);
    const blockSizes = sizesFor(options["block-size"], disks.length);
    const [{ NvmeDevice }, { serveFunctions }] = await Promise.all([
      import("ring3/devices/nvme"),
      import("../../serve/serve-functions.ts"),
    ]);
    const fn = resources.use(
      new NvmeDevice({
        namespaces: disks.map(({ backing }, index) => ({
          backing,
          blockSize: blockSizes[index] ?? 512,
          readOnly: options["read-only"],
        })),
        serialNumber: serialNumber(options.serial, options, path),
        ioQueues: Number(options.queues),
        mappableDoorbells: options["mappable-doorbells"],
      }),
    );
    const summary = disks.map(({ description }, index) => `${index + 1}: ${description}`).join("; ");
    await serveFunctions({ device: "nvme", summary, functions: [{ fn, path }] }, settings, context);
  },
});

function sizesFor(given: readonly bigint[], count: number): (512 | 4096)[] {
  const sizes = given.map((size): 512 | 4096 => {
    if (size === 512n || size === 4096n) return Number(size) as 512 | 4096;
    throw new UsageError(`--block-size is 512 or 4096, not ${size}`);
  });
  if (sizes.length <= 1) return Array.from({ length: count }, () => sizes[0] ?? 512);
  if (sizes.length === count) return sizes;
  throw new UsageError(`--block-size is given ${sizes.length} times for ${count} namespaces: once, or once for each`);
}
