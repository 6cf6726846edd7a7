// ring3 new driver: a driver of one's own, with its test.
import { type Command, command } from "../../command.ts";

export const driver: Command = command({
  summary: "write a driver to start from, with a program and a test; it drives the device of ring3 new device",
  operands: [{ name: "NAME", description: "the new directory; its last part names the driver" }],
  options: {},
  examples: [
    { command: "ring3 new driver adder-driver", text: "then: node adder-driver/main.ts vfio-user:/tmp/adder.sock" },
  ],
  run: async ({ operands: [directory = ""] }, context) => {
    const [{ driverFiles }, { scaffold }] = await Promise.all([
      import("../../templates/driver.ts"),
      import("./scaffold-command.ts"),
    ]);
    scaffold(directory, driverFiles, context, (at) => [
      [`node --test ${at}/driver.test.ts`, "its test, against a model of the device"],
      [`node ${at}/main.ts vfio-user:/tmp/device.sock`, "against a device that ring3 serve serves"],
    ]);
  },
});
