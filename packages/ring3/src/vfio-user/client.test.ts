// A function over a socket keeps the whole contract of PciFunction, in every way in which it can be connected.
// seconds: 5
import { after, before } from "node:test";
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { Sample } from "../../../../tests/fakes/sample-device.ts";
import { createArena } from "../linux/arena-memory.ts";
import { type ConnectOptions, connect } from "./client.ts";

const module = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);
const create = "new device.SampleDevice()";
let served: ServedFunction;
/** One that several clients may have at a time. */
let shared: ServedFunction;
before(async () => {
  served = await ServedFunction.start({ module, create });
  shared = await ServedFunction.start({ module, create, options: { openings: 2 } });
});
after(async () => {
  await served[Symbol.asyncDispose]();
  await shared[Symbol.asyncDispose]();
});

interface Way extends ConnectOptions {
  /** Whether others may come, and whether one is there already. */
  readonly others?: "may come" | "are there";
}

const ways: Readonly<Record<string, Way>> = {
  "vfio-user": {},
  "vfio-user, memory by messages": { shareMemory: false, twinSocket: false },
  "vfio-user, twin socket, memory by messages": { shareMemory: false },
  "vfio-user, first of several clients": { others: "may come" },
  "vfio-user, beside another client": { others: "are there" },
};

for (const [name, { others, ...options }] of Object.entries(ways)) {
  pciFunctionContract(name, async (t) => {
    const { path } = others === undefined ? served : shared;
    if (others === "are there") {
      const other = await connect(path, { arena: createArena() });
      t.after(() => other[Symbol.asyncDispose]());
    }
    const fn = await connect(path, options);
    t.after(() => fn[Symbol.asyncDispose]());
    return {
      fn,
      constant: { bar: 0, offset: Sample.CONSTANT },
      scratch: { bar: 0, offset: Sample.SCRATCH, mask: 0xffff_ffff },
      copy: async (source, target, size) => {
        const bar = fn.bar(0);
        bar.write64(Sample.SOURCE, BigInt(source));
        bar.write64(Sample.TARGET, BigInt(target));
        bar.write32(Sample.SIZE, size);
        bar.write32(Sample.COPY, 1);
        // Writes are posted; a read comes behind them.
        bar.read32(Sample.CONSTANT);
        await Promise.resolve();
      },
    };
  });
}
