// Devices that come with the library, each behind a mediator: both contracts hold as without one.
// seconds: 2
import type { TestContext } from "node:test";
import { libraryDevices } from "../../../../tests/contract/library-devices.ts";
import { pciFunctionContract } from "../../../../tests/contract/pci-function.ts";
import { deviceContract } from "../../../../tests/contract/virtual-function.ts";
import { inProcess, type VirtualFunction } from "../virtual/index.ts";
import { linux, type MediatedFunction, mediate, strict } from "./index.ts";

const chosen = libraryDevices.filter(({ name }) => name === "edu" || name === "nvme, doorbells mapped");

for (const rules of [strict, linux]) {
  for (const { name, module, create, copy, below, ...rest } of chosen) {
    const make = async (t: TestContext): Promise<MediatedFunction> => {
      const library: unknown = await import(module.href);
      // The expression is text because other suites hand it to another process.
      const source = `data:text/javascript,${encodeURIComponent(`export const made = (device) => ${create};`)}`;
      const { made } = (await import(source)) as { made: (device: unknown) => VirtualFunction };
      const real = inProcess(made(library));
      const mediated = await mediate(real, { rules });
      t.after(async () => {
        await mediated[Symbol.asyncDispose]();
        await real[Symbol.asyncDispose]();
      });
      return mediated;
    };

    pciFunctionContract(`${name} mediated by ${rules.name}`, async (t) => {
      const fn = inProcess(await make(t));
      t.after(() => fn[Symbol.asyncDispose]());
      const { constant, scratch } = rest;
      return {
        fn,
        constant,
        ...(scratch === undefined ? {} : { scratch }),
        ...(below === undefined ? {} : { copyBelow: below }),
        ...(copy === undefined ? {} : { copy: (from, to, size) => copy(fn, from, to, size) }),
      };
    });

    // Linux keeps a user's registers, and bus mastering, over a reset.
    if (rules === linux) continue;
    deviceContract(`${name} mediated by ${rules.name}`, async (t) => {
      const mediated = await make(t);
      return {
        ...rest,
        ...(below === undefined ? {} : { below }),
        fn: inProcess(mediated),
        reopen: async () => {
          await mediated.settling;
          return inProcess(mediated);
        },
      };
    });
  }
}
