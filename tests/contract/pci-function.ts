// The contract of PciFunction: what every implementation promises, on any function. Run over the kernel's VFIO in the
// guest, in process, and over sockets. It needs nothing of the function but what PCI itself demands; registers that may
// be touched come from the fixture.
import { describe } from "node:test";
import { dmaContract } from "./dma.ts";
import type { OpenFixture } from "./fixture.ts";
import { interruptContract } from "./interrupts.ts";
import { lifetimeContract } from "./lifetime.ts";
import { registerContract } from "./registers.ts";

export type { OpenFixture } from "./fixture.ts";

/** Declares the contract's tests for the function that `open` opens. */
export function pciFunctionContract(name: string, open: OpenFixture): void {
  describe(`PciFunction contract: ${name}`, { concurrency: false }, () => {
    registerContract(open);
    dmaContract(open);
    interruptContract(open);
    lifetimeContract(open);
  });
}
