// Serves what is measured, in a process of its own: `wire SOCKET`, `nvme null|memory SOCKET` or `many COUNT FOLDER`. Prints
// one line when it is ready.
import { join } from "node:path";
import { memoryBacking, NvmeDevice, nullBacking } from "ring3/devices/nvme";
import { defaultArena } from "ring3/linux";
import { serve } from "ring3/vfio-user";
import { wireDevice } from "./device.ts";
import { BLOCK_BYTES, countingDisk, DISK_BYTES } from "./nvme-plan.ts";

const [what, first = "", second = ""] = process.argv.slice(2);
if (what === "wire") {
  await serve(wireDevice(), first);
  console.log("ready");
} else if (what === "nvme") {
  const arena = defaultArena();
  const backing = first === "memory" ? memoryBacking(countingDisk(arena.reserve(DISK_BYTES))) : nullBacking(DISK_BYTES);
  const namespaces = [{ backing, blockSize: BLOCK_BYTES }] as const;
  await serve(new NvmeDevice({ arena, namespaces, mappableDoorbells: true }), second);
  console.log("ready");
} else if (what === "many") {
  const taken = (): { readonly resident: number; readonly heap: number } => {
    globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    return { resident: rss, heap: heapUsed + external };
  };
  // What is made once for the process does not count for each function.
  await using servers = new AsyncDisposableStack();
  servers.use(await serve(wireDevice(), join(second, "warm.sock")));
  const before = taken();
  for (let i = 0; i < Number(first); i++) servers.use(await serve(wireDevice(), join(second, `${i}.sock`)));
  const after = taken();
  console.log((after.resident - before.resident) / Number(first), (after.heap - before.heap) / Number(first));
} else {
  console.error("usage: serve.bench.ts wire SOCKET | nvme null|memory SOCKET | many COUNT FOLDER");
  process.exitCode = 2;
}
