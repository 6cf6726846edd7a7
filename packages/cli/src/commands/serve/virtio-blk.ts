// ring3 serve virtio-blk: a virtio disk, as guests have them.
import { type Command, command } from "../../command.ts";
import { DISK_OPTIONS, openDisks, serialNumber } from "../../serve/disks.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";
import { VIRTIO_OPTIONS, virtioSettings } from "../../serve/virtio-options.ts";
import { UsageError } from "../../usage-error.ts";

export const virtioBlk: Command = command({
  summary: "serve a virtio disk from a file or memory",
  operands: [],
  options: {
    ...DISK_OPTIONS,
    "block-size": {
      kind: "integer",
      value: "BYTES",
      minimum: 512n,
      maximum: 65_536n,
      initial: 512n,
      description: "bytes of a block, a power of two",
    },
    queues: { kind: "integer", value: "N", minimum: 1n, maximum: 16n, initial: 1n, description: "request queues" },
    ...VIRTIO_OPTIONS,
    ...SERVER_OPTIONS,
  },
  examples: [
    { command: "ring3 serve virtio-blk --file disk.img --socket /tmp/disk.sock", text: "a guest boots from it" },
    {
      command: "ring3 serve virtio-blk --memory 1G --queues 4 --socket /tmp/disk.sock",
      text: "in memory, four queues",
    },
  ],
  run: async ({ options }, context) => {
    const path = socketPath(options.socket);
    const settings = await serverSettings(options, context);
    await using resources = new AsyncDisposableStack();
    const [disk, second] = await openDisks(options, resources);
    if (disk === undefined || second !== undefined) {
      throw new UsageError("a virtio disk is one disk: give one --file, --memory or --null (nvme takes several)");
    }
    const [{ VirtioBlock }, { serveFunctions }] = await Promise.all([
      import("ring3/devices/virtio"),
      import("../../serve/serve-functions.ts"),
    ]);
    const fn = resources.use(
      new VirtioBlock({
        backing: disk.backing,
        readOnly: options["read-only"],
        blockSize: Number(options["block-size"]),
        queues: Number(options.queues),
        ...virtioSettings(options),
        serial: serialNumber(options.serial, options, path),
      }),
    );
    await serveFunctions(
      { device: "virtio-blk", summary: disk.description, functions: [{ fn, path }] },
      settings,
      context,
    );
  },
});
