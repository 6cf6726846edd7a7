// Runs inside the guest: goes as far as it is told, idles, and says how much memory is resident. What an early stage does
// not need is not even imported.
import type { Stage } from "./plan.ts";
import { resident } from "./resident.ts";

const IDLE_MS = 2000;
const [stage, address] = process.argv.slice(2) as [Stage, string];

await using stack = new AsyncDisposableStack();
if (stage !== "bare") {
  const { open } = await import("ring3");
  const { NvmeDriver } = await import("ring3/nvme");
  if (stage !== "imported") {
    const fn = stack.use(await open(address));
    if (stage === "started") {
      const nvme = stack.use(await NvmeDriver.start(fn));
      await nvme.namespace(1).read(0n, 8);
    }
  }
}
await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
console.log(JSON.stringify(resident()));
