// spoils: it sleeps
// The machine sleeps (S3) with I/O under way. The kernel brings config space back and nothing else, and signals nothing:
// the function's driver is told, what the library owns works on, and the NVMe driver sets its controller up again and
// repeats what was in flight, so that nothing is lost. One sleep only: a second one in the same guest of QEMU's may end at
// once or never.
import assert from "node:assert/strict";
import { test } from "node:test";
import { NvmeDriver } from "../../../packages/ring3/src/drivers/nvme/index.ts";
import { next, patiently } from "../../contract/awaited-events.ts";
import { backends, opened } from "../../contract/guest-functions.ts";
import { suspend } from "../inside.ts";
import { FUNCTIONS } from "../machine.ts";

const WORKERS = 16;
/** Each kernel its own way to wait, so that both are seen. */
const completion = process.env["RING3_GUEST"] === "debian" ? "interrupt" : "adaptive";
const [nvmeBackend = "group"] = backends;
const eduBackend = backends.at(-1) ?? "group";

test(`nvme over ${nvmeBackend} (${completion}) in mid-I/O and edu over ${eduBackend} survive a sleep`, async (t) => {
  const fn = await opened(t, FUNCTIONS.nvme.address, { backend: nvmeBackend });
  const edu = await opened(t, FUNCTIONS.edu.address, { backend: eduBackend });
  await using nvme = await NvmeDriver.start(fn, { completion });

  const registers = edu.bar(0).registers();
  const [interrupt] = edu.interrupts.msi(1);
  assert.ok(interrupt !== undefined);
  using buffer = edu.dma.allocate(4096);
  buffer.words[0] = 0x1234;

  let stop = false;
  let operations = 0;
  const work = Promise.all(
    Array.from({ length: WORKERS }, async (_, index) => {
      const namespace = nvme.namespace(1 + (index % 2));
      for (let round = 0; !stop; round++) {
        const data = new Uint8Array(namespace.blockSize).fill(index * 16 + round);
        await namespace.write(14_000 + index, data);
        assert.deepEqual(await namespace.read(14_000 + index, 1), data);
        operations++;
      }
    }),
  );
  // Awaited at the end: until then a failure ends the loops, and a consequence of it does not hide it.
  work.catch(() => (stop = true));
  const reaches = async (count: number): Promise<void> => {
    while (!stop && operations < count) await new Promise((resolve) => setTimeout(resolve, 5));
  };

  await reaches(50);
  const told = next(edu, "resumed");
  const recovered = new Promise<{ sleptMs: number }>((resolve) => void nvme.events.on("resumed", resolve));
  await suspend();
  const { sleptMs } = (await patiently(told)) as { sleptMs: number };
  assert.ok(sleptMs > 0 && sleptMs < 60_000, `${sleptMs} ms`);

  assert.equal(edu.config.read16(0), 0x1234);
  assert.equal(registers.read32(0), 0x0100_00ed);
  assert.equal(buffer.words[0], 0x1234);
  interrupt.trigger();
  assert.equal(await interrupt.next({ timeoutMs: 20_000 }), 1);
  // The device's own message arrives as well: the kernel restored where it points.
  edu.busMaster = true;
  registers.write32(0x60, 1);
  assert.equal(await interrupt.next({ timeoutMs: 20_000 }), 1);
  registers.write32(0x64, 1);

  assert.ok((await patiently(recovered)).sleptMs > 0);
  await reaches(operations + 100);
  stop = true;
  await work;
  assert.ok((await nvme.smart()).COMPOSITE_TEMPERATURE > 0);
});
