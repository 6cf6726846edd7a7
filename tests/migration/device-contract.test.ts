// The devices that come with the library, each behind a socket: the contract of functions and that of devices.
import { type TestContext } from "node:test";
import { connect } from "../../packages/ring3/src/vfio-user/client.ts";
import type { VfioUserFunction } from "../../packages/ring3/src/vfio-user/client-function.ts";
import { libraryDevices } from "../contract/library-devices.ts";
import { pciFunctionContract } from "../contract/pci-function.ts";
import { ServedFunction } from "../contract/served-function.ts";
import { deviceContract } from "../contract/virtual-function.ts";

/** Takes a state by the migration commands. What the server does not take leaves a device that only a reset helps. */
async function restore(fn: VfioUserFunction, state: Uint8Array): Promise<void> {
  try {
    fn.migration.restore(state);
    fn.migration.setState("running");
  } catch (error) {
    await fn.reset();
    throw error;
  }
}

for (const { name, module, create, copy, below, ...device } of libraryDevices) {
  const open = async (t: TestContext): Promise<{ served: ServedFunction; fn: VfioUserFunction }> => {
    const served = await ServedFunction.start({ module, create });
    t.after(() => served[Symbol.asyncDispose]());
    const fn = await connect(served.path);
    t.after(() => fn[Symbol.asyncDispose]());
    return { served, fn };
  };

  pciFunctionContract(`${name} over vfio-user`, async (t) => {
    const { fn } = await open(t);
    const { constant, scratch } = device;
    return {
      fn,
      constant,
      ...(scratch === undefined ? {} : { scratch }),
      ...(below === undefined ? {} : { copyBelow: below }),
      ...(copy === undefined ? {} : { copy: (source, target, size) => copy(fn, source, target, size) }),
    };
  });

  deviceContract(`${name} over vfio-user`, async (t) => {
    const { served, fn } = await open(t);
    return {
      ...device,
      ...(below === undefined ? {} : { below }),
      fn,
      reopen: async () => {
        const again = await connect(served.path);
        t.after(() => again[Symbol.asyncDispose]());
        return again;
      },
      state: {
        save: async () => {
          const state = fn.migration.save();
          fn.migration.setState("running");
          return state;
        },
        restore: (state) => restore(fn, state),
      },
    };
  });
}
