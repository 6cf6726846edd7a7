// ring3 new device: a device of one's own, with its test.
import { type Command, command } from "../../command.ts";

export const device: Command = command({
  summary: "write a device to start from: registers, DMA, an interrupt, and a test in process",
  operands: [{ name: "NAME", description: "the new directory; its last part names the device" }],
  options: {},
  examples: [
    { command: "ring3 new device adder", text: "then: ring3 serve ./adder/device.ts --socket /tmp/adder.sock" },
  ],
  run: async ({ operands: [directory = ""] }, context) => {
    const [{ deviceFiles }, { scaffold }] = await Promise.all([
      import("../../templates/device.ts"),
      import("./scaffold-command.ts"),
    ]);
    scaffold(directory, deviceFiles, context, (at) => [
      [`node --test ${at}/device.test.ts`, "its test: no root, no guest"],
      [`ring3 serve ${at}/device.ts --socket /tmp/device.sock`, "serve it"],
      ["ring3 info vfio-user:/tmp/device.sock", "look at it, in another terminal"],
    ]);
  },
});
