// Serves what is measured, in a process of its own: `wire SOCKET`, or `many COUNT FOLDER`. Prints one line when it is ready.
import { join } from "node:path";
import { serve } from "ring3/vfio-user";
import { wireDevice } from "./device.ts";

const [what, first = "", second = ""] = process.argv.slice(2);
if (what === "wire") {
  await serve(wireDevice(), first);
  console.log("ready");
} else if (what === "many") {
  const resident = (): number => {
    globalThis.gc?.();
    return process.memoryUsage.rss();
  };
  // What is made once for the process does not count for each function.
  await using servers = new AsyncDisposableStack();
  servers.use(await serve(wireDevice(), join(second, "warm.sock")));
  const before = resident();
  for (let i = 0; i < Number(first); i++) servers.use(await serve(wireDevice(), join(second, `${i}.sock`)));
  console.log((resident() - before) / Number(first));
} else {
  console.error("usage: serve.bench.ts wire SOCKET | many COUNT FOLDER");
  process.exitCode = 2;
}
