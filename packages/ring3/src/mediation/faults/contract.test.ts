// A function to which nothing happens yet keeps the whole contract of PciFunction, with its memory bounced or not.
// seconds: 1
import { watchedDevices } from "../../../../../tests/fakes/watched-devices.ts";
import { pciFunctionContract } from "../../../../../tests/contract/pci-function.ts";
import { faulty } from "./faulty.ts";
import type { FaultPlan } from "./plan.ts";

const never = 2 ** 50;
const plans: Readonly<Record<string, FaultPlan>> = {
  registers: {
    faults: [
      { kind: "all-ones", at: never },
      { kind: "lost-interrupt", at: never },
    ],
  },
  memory: { faults: [{ kind: "dma-corruption", at: never }] },
};
for (const [title, plan] of Object.entries(plans)) {
  for (const { name, open } of watchedDevices) {
    pciFunctionContract(`${name}, with faults of ${title}`, async (t) => open(t, (fn) => faulty(fn, plan)));
  }
}
