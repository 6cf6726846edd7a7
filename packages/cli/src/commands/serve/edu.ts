// ring3 serve edu: QEMU's educational device.
import { type Command, command } from "../../command.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";

export const edu: Command = command({
  summary: "serve QEMU's educational device",
  operands: [],
  options: {
    ...SERVER_OPTIONS,
    "address-bits": {
      kind: "integer",
      value: "N",
      minimum: 12n,
      maximum: 52n,
      initial: 28n,
      description: "address bits of the DMA engine",
    },
    "transfer-ms": {
      kind: "integer",
      value: "MS",
      maximum: 60_000n,
      initial: 0n,
      description: "how long a DMA transfer takes (QEMU's takes 100)",
    },
  },
  examples: [
    { command: "ring3 serve edu --socket /tmp/edu.sock", text: "then: ring3 edu vfio-user:/tmp/edu.sock" },
    { command: "ring3 serve edu --socket /tmp/edu.sock --mode 0660 --owner alice:vfio", text: "for a group of users" },
  ],
  run: async ({ options }, context) => {
    const path = socketPath(options.socket);
    const settings = await serverSettings(options, context);
    const [{ EduDevice }, { serveFunctions }] = await Promise.all([
      import("ring3/devices/edu"),
      import("../../serve/serve-functions.ts"),
    ]);
    using fn = new EduDevice({
      addressBits: Number(options["address-bits"]),
      transferMs: Number(options["transfer-ms"]),
    });
    const serving = { device: "edu", summary: "factorials, interrupts and DMA", functions: [{ fn, path }] };
    await serveFunctions(serving, settings, context);
  },
});
