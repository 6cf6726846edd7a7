// The fake keeps the contract of PciFunction, so that what is tested over it holds elsewhere.
import { pciFunctionContract } from "../contract/pci-function.ts";
import { FakeFunction } from "./fake-function.ts";

pciFunctionContract("fake", async (t) => {
  let scratch = 0;
  const fn = new FakeFunction({
    intx: true,
    msi: 4,
    msix: 8,
    bars: {
      0: {
        size: 0x4000,
        kind: "memory64",
        memory: { offset: 0x1000, size: 0x1000 },
        read: (offset, width) =>
          offset === 0 && width === 4 ? 0x1234_5678 : offset === 4 && width === 4 ? scratch : 0,
        write: (offset, _width, value) => {
          if (offset === 4) scratch = value;
        },
      },
      2: { size: 32, kind: "io", read: () => 0 },
    },
  });
  t.after(() => fn[Symbol.asyncDispose]());
  return {
    fn,
    constant: { bar: 0, offset: 0 },
    scratch: { bar: 0, offset: 4, mask: 0xffff_ffff },
    copy: async (source, target, size) => {
      const bytes = fn.dma.read(source, size);
      if (bytes !== undefined) fn.dma.write(target, bytes);
    },
  };
});
