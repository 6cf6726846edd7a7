// A process that writes to namespace 1 with 32 commands in flight until it is killed.
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";

const fn = await open(process.argv[2] ?? "");
const nvme = await NvmeDriver.start(fn);
const namespace = nvme.namespace(1);
let written = 0;
const writer = async (index: number): Promise<void> => {
  for (;;) {
    await namespace.write(30_000 + index * 8, new Uint8Array(4096).fill(index));
    if (++written === 100) process.stdout.write("running\n");
  }
};
await Promise.all(Array.from({ length: 32 }, (_, index) => writer(index)));
