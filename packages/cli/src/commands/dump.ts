// ring3 dump: config space as the text that lspci -F reads, from wherever the function can be reached.
import type { AccessedFunction, DumpExtent } from "ring3/pci";
import { ACCESS_OPTIONS, accessFunctions, SOURCE_OPERAND } from "../access-functions.ts";
import { type Command, command } from "../command.ts";

export const dump: Command = command({
  summary: "write config space as text that lspci -F reads",
  description:
    "From sysfs, from a function that is open through VFIO, or from one that is served at a socket: unmodified pciutils " +
    "then show what they could not reach. Without an ADDRESS, every function of the machine.",
  operands: [SOURCE_OPERAND],
  options: {
    ...ACCESS_OPTIONS,
    extent: {
      kind: "choice",
      choices: ["header", "standard", "all"],
      initial: "all",
      description: "how much of it: 64 bytes as lspci -x, 256 as -xxx, or all as -xxxx",
    },
    output: { kind: "text", short: "o", value: "FILE", description: "write to FILE instead of stdout" },
  },
  examples: [
    {
      command: "sudo ring3 dump -o machine.txt",
      text: "every function, to look at elsewhere: lspci -F machine.txt -vvv",
    },
    { command: "ring3 dump vfio-user:/run/disk.sock --at 01:00.0", text: "a function that only a socket reaches" },
    { command: "ring3 dump 01:00.0 --backend auto", text: "what the owner of a VFIO function sees, without root" },
  ],
  run: async ({ operands, options }, context) => {
    const { formatDump, readConfig } = await import("ring3/pci");
    await using accessed = await accessFunctions(operands, options, context);
    const { functions } = accessed;
    const title = await titles();
    const text = formatDump(functions, { extent: options.extent as DumpExtent, title });
    if (options.output !== undefined) {
      const { writeFile } = await import("node:fs/promises");
      await writeFile(options.output, text);
    }
    const value = functions.map((fn) => {
      const bytes = readConfig(fn, { header: 64, standard: 256, all: 4096 }[options.extent]);
      return { address: fn.address, method: fn.method, sizeBytes: bytes.length, bytes };
    });
    context.result({ output: options.output, functions: value }, () => (options.output === undefined ? text : ""));
  },
});

/** Titles as lspci writes them: class, vendor and device by name where there is a pci.ids. */
async function titles(): Promise<(fn: AccessedFunction, bytes: Uint8Array) => string> {
  const { FunctionNames } = await import("ring3/host");
  const names = new FunctionNames();
  return ({ facts }, bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const vendorId = facts.vendorId ?? view.getUint16(0, true);
    const deviceId = facts.deviceId ?? view.getUint16(2, true);
    const hex = (value: number): string => value.toString(16).padStart(4, "0");
    const vendor = names.vendor(vendorId) ?? `Vendor ${hex(vendorId)}`;
    const device = names.device(vendorId, deviceId) ?? `Device ${hex(deviceId)}`;
    return `${names.class(facts.classCode ?? view.getUint32(8, true) >>> 8)}: ${vendor} ${device}`;
  };
}
