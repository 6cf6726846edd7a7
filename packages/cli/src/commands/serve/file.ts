// ring3 serve FILE: a device that the user wrote.
import { type Command, command } from "../../command.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";

export const file: Command = command({
  summary: "serve a device of your own, from a TypeScript or JavaScript file",
  description:
    "The file exports `device`: a VirtualFunction, a class of one, or a function that makes one; a default export counts " +
    "as `device`. Class and function get what --set gives as an object of strings. ring3 new device NAME writes a file " +
    "to start from.",
  operands: [{ name: "FILE", description: "the file, as ./my-device.ts" }],
  options: {
    ...SERVER_OPTIONS,
    set: { kind: "texts", value: "NAME=VALUE", description: "a setting for the device" },
  },
  examples: [
    {
      command: "ring3 serve ./my-device.ts --socket /tmp/my.sock",
      text: "serve it; ring3 info vfio-user:/tmp/my.sock",
    },
    { command: "ring3 serve ./my-device.ts --socket /tmp/my.sock --set size=4096", text: "with a setting of its own" },
  ],
  run: async ({ operands, options }, context) => {
    const [path = ""] = operands;
    const socket = socketPath(options.socket);
    const settings = await serverSettings(options, context);
    const { deviceSettings, loadDevice } = await import("../../serve/load-device.ts");
    const fn = await loadDevice(path, deviceSettings(options.set));
    using _fn = fn;
    const { serveFunctions } = await import("../../serve/serve-functions.ts");
    const serving = { device: path, summary: fn.identity.address, functions: [{ fn, path: socket }] };
    await serveFunctions(serving, settings, context);
  },
});
