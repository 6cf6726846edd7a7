// A process that serves two targets, as hardware for a ring3d, and answers its parent what each is like. Words: their sockets.
import assert from "node:assert/strict";
import { serve } from "../../../packages/ring3/src/vfio-user/server.ts";
import { hardwareOf, TargetDevice } from "./target-device.ts";

const targets = new Map<string, TargetDevice>();
for (const path of process.argv.slice(2)) {
  const device = new TargetDevice();
  targets.set(path, device);
  await serve(device, path);
}
assert.ok(process.send !== undefined, "somebody has to ask");
process.on("message", (path: string) => {
  const device = targets.get(path) ?? assert.fail(path);
  const { config, tableEntry } = hardwareOf(device);
  process.send?.({ config: Array.from(config), tableEntry: Array.from(tableEntry), maps: device.memory.count });
});
process.on("disconnect", () => process.exit(0));
process.send("serving");
