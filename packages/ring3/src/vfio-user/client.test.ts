// A function over a socket keeps the whole contract of PciFunction, in every way in which it can be connected.
import { after, before } from "node:test";
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { ServedFunction } from "../../../../tests/contract/served-function.ts";
import { Sample } from "../../../../tests/fakes/sample-device.ts";
import { type ConnectOptions, connect } from "./client.ts";

const module = new URL("../../../../tests/fakes/sample-device.ts", import.meta.url);
let served: ServedFunction;
before(async () => {
  served = await ServedFunction.start({ module, create: "new device.SampleDevice()" });
});
after(() => served[Symbol.asyncDispose]());

const ways: Readonly<Record<string, ConnectOptions>> = {
  "vfio-user": {},
  "vfio-user, memory by messages": { shareMemory: false, twinSocket: false },
  "vfio-user, twin socket, memory by messages": { shareMemory: false },
};

for (const [name, options] of Object.entries(ways)) {
  pciFunctionContract(name, async (t) => {
    const fn = await connect(served.path, options);
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
