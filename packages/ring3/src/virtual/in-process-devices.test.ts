// The devices that come with the library, in process: both contracts. The same over sockets is in tests/migration.
// seconds: 4
import { libraryDevices } from "../../../../tests/contract/library-devices.ts";
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { deviceContract } from "../../../../tests/contract/virtual-function.ts";
import { inProcess, type VirtualFunction } from "./index.ts";

for (const { name, module, create, copy, below, ...rest } of libraryDevices) {
  const make = async (): Promise<VirtualFunction> => {
    const device: unknown = await import(module.href);
    // The expression is text because other suites hand it to another process.
    const source = `data:text/javascript,${encodeURIComponent(`export const made = (device) => ${create};`)}`;
    const { made } = (await import(source)) as { made: (device: unknown) => VirtualFunction };
    return made(device);
  };

  pciFunctionContract(`${name} in process`, async (t) => {
    const fn = inProcess(await make());
    t.after(() => fn[Symbol.asyncDispose]());
    const { constant, scratch } = rest;
    return {
      fn,
      constant,
      ...(scratch === undefined ? {} : { scratch }),
      ...(below === undefined ? {} : { copyBelow: below }),
      ...(copy === undefined ? {} : { copy: (source, target, size) => copy(fn, source, target, size) }),
    };
  });

  deviceContract(`${name} in process`, async (t) => {
    const device = await make();
    const fn = inProcess(device);
    t.after(() => device[Symbol.dispose]());
    return {
      ...rest,
      ...(below === undefined ? {} : { below }),
      fn,
      reopen: async () => inProcess(device),
      state: { save: async () => device.save(), restore: async (state) => device.restore(state) },
    };
  });
}
