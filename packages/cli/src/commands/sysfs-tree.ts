// ring3 sysfs-tree: functions as a directory that lspci and setpci take for /sys/bus/pci.
import { ACCESS_OPTIONS, accessFunctions, SOURCE_OPERAND } from "../access-functions.ts";
import { type Command, command } from "../command.ts";

export const sysfsTree: Command = command({
  summary: "write a directory that lspci -O sysfs.path=DIR reads",
  description:
    "Like dump, with what a dump has no room for: sizes of BARs, interrupt, driver, group, node, slot, VPD. setpci may " +
    "write to it as well: the bytes change, no device does.",
  operands: [{ name: "DIR", description: "the directory to make, in the place of /sys/bus/pci" }, SOURCE_OPERAND],
  options: {
    ...ACCESS_OPTIONS,
    force: { kind: "flag", description: "replace functions that DIR has already" },
  },
  examples: [
    {
      command: "ring3 sysfs-tree /tmp/disk vfio-user:/run/disk.sock",
      text: "then: lspci -A linux-sysfs -O sysfs.path=/tmp/disk -vvv",
    },
    { command: "sudo ring3 sysfs-tree snapshot", text: "the whole machine as it is now" },
  ],
  run: async ({ operands, options }, context) => {
    const [directory = "", ...words] = operands;
    const { writeSysfsTree } = await import("ring3/host");
    await using accessed = await accessFunctions(words, options, context);
    writeSysfsTree(directory, accessed.functions, { replace: options.force });
    const functions = accessed.functions.map(({ address, method }) => ({ address, method }));
    context.result({ directory, functions }, () => {
      const count = functions.length === 1 ? "1 function" : `${functions.length} functions`;
      return `wrote ${count}; now: lspci -A linux-sysfs -O sysfs.path=${directory} -vvv`;
    });
  },
});
