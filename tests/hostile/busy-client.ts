// A client that does all at once: it maps and unmaps memory, reads and writes with commands in flight, takes interrupts.
// It waits for its parent's word, and goes on until it is killed.
import { NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import { connect } from "../../packages/ring3/src/vfio-user/index.ts";

const BLOCK = 4096;
const DEPTH = 8;

async function main(path: string): Promise<void> {
  process.send?.("loaded");
  await new Promise((resolve) => process.once("message", resolve));
  const fn = await connect(path);
  const nvme = await NvmeDriver.start(fn);
  process.send?.("busy");
  const disk = nvme.namespace(2);
  const work = async (lane: number): Promise<never> => {
    const bytes = new Uint8Array(BLOCK).fill(lane);
    for (let i = 0; ; i++) {
      const block = BigInt((i * DEPTH + lane) % 1024);
      if (i % 3 === 0) await disk.write(block, bytes);
      else await disk.read(block, 1 + (i % 8));
    }
  };
  const maps = async (): Promise<never> => {
    for (;;) {
      using first = fn.dma.allocate(65536);
      using second = fn.dma.allocate(4096);
      first.bytes[0] = second.bytes.length & 0xff;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all([maps(), ...Array.from({ length: DEPTH }, (_, lane) => work(lane))]);
}

if (process.argv[2] !== undefined) await main(process.argv[2]);
