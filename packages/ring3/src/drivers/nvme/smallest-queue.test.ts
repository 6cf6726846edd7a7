import test from "node:test";
import { memoryBacking } from "../../devices/block-backing.ts";
import { NvmeDevice } from "../../devices/nvme/index.ts";
import { inProcess } from "../../virtual/index.ts";
import { NvmeDriver } from "./driver.ts";

// A controller that is not told of the one free completion entry stops, and only the driver's time-out gets it going.
test("a polled queue of two entries goes on and on", { timeout: 8_000 }, async () => {
  const device = new NvmeDevice({ namespaces: [{ backing: memoryBacking(4096) }] });
  await using fn = inProcess(device);
  await using nvme = await NvmeDriver.start(fn, { completion: "polled", queueDepth: 2, timeoutMs: 30_000 });
  for (let i = 0; i < 5; i++) await nvme.namespace(1).read(0n, 1);
});
