// A function that is traced keeps the whole contract of PciFunction, with its memory recorded or not.
// seconds: 2
import { pciFunctionContract } from "../../../../../tests/contract/pci-function.ts";
import { watchedDevices } from "../../../../../tests/fakes/watched-devices.ts";
import type { TraceEvent } from "./event.ts";
import { traced } from "./traced.ts";

for (const memory of [false, true]) {
  for (const { name, open } of watchedDevices) {
    pciFunctionContract(`${name}, traced${memory ? " with its memory" : ""}`, async (t) => {
      const events: TraceEvent[] = [];
      return open(t, (fn) => traced(fn, { write: (event) => void events.push(event) }, { memory }));
    });
  }
}
