// ring3 nvme identify: the controller and its namespaces.
import { type Command, command } from "../../command.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { binarySize, columns, hex } from "../../text.ts";
import { CONTROLLER, startNvme } from "./session.ts";

export const identify: Command = command({
  summary: "show the controller and its namespaces",
  operands: [CONTROLLER],
  options: OPEN_OPTIONS,
  examples: [
    { command: "ring3 nvme identify 01:00.0", text: "model, firmware, limits, namespaces" },
    { command: "ring3 nvme identify 01:00.0 --json | jq -r .controller.SN", text: "the serial number" },
  ],
  run: async ({ operands, options }, context) => {
    await using session = await startNvme(operands[0] ?? "", options, context);
    const { driver, address, backend } = session;
    const { controller, capabilities, limits, queues } = driver;
    const namespaces = driver.namespaces.map(({ id, blockSize, blocks, sizeBytes }) => ({
      id,
      blockSize,
      blocks,
      sizeBytes,
    }));
    const value = { address, backend, controller, capabilities, limits, queues, namespaces };
    context.result(value, () => {
      const { VER } = controller;
      const rows = [
        ["model", controller.MN],
        ["serial", controller.SN],
        ["firmware", controller.FR],
        ["subsystem", controller.SUBNQN],
        ["NVMe version", `${VER >>> 16}.${(VER >>> 8) & 0xff}.${VER & 0xff}`],
        ["vendor", `${hex(controller.VID, 4)}, subsystem ${hex(controller.SSVID, 4)}`],
        ["one command at most", binarySize(limits.maxTransferBytes)],
        ["queues", `${queues.io} of ${queues.limit}, interrupts by ${queues.interrupts}`],
        ...namespaces.map(({ id, blocks, blockSize, sizeBytes }) => {
          return [`namespace ${id}`, `${binarySize(sizeBytes)}: ${blocks} blocks of ${blockSize} bytes`];
        }),
      ];
      return `${context.style.bold(address)} through ${backend}\n${columns(rows, { indent: 2 })}`;
    });
  },
});
