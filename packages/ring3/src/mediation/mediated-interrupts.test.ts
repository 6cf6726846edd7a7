// Which way interrupts take: straight from the real function to the user's eventfds, or heard and passed on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventFd } from "../linux/event-fd.ts";
import type { Interrupt, Interrupts, LineInterrupt } from "../pci/function.ts";
import * as virtual from "../virtual/index.ts";
import { MediatedInterrupts } from "./mediated-interrupts.ts";
import { type InterruptObservation, Observers } from "./observer.ts";

/** A real function's interrupts: raised by the test, heard at once, and noted down. */
class RealInterrupts implements Interrupts {
  readonly available = { intx: 1, msi: 4, msix: 8 };
  readonly growable: boolean;
  readonly log: string[] = [];
  readonly attach: Interrupts["attach"];
  active: "none" | "intx" | "msi" | "msix" = "none";
  /** The level of the line, which fires when it is unmasked. */
  level = false;
  #listeners = new Map<number, (count: number) => void>();

  constructor(growable: boolean) {
    this.growable = growable;
    this.attach = (kind, first, descriptors) => {
      this.active = kind;
      this.log.push(`attach ${kind} ${first} ${descriptors.map((one) => (one === undefined ? "-" : "fd")).join(" ")}`);
    };
  }

  raise(vector: number): void {
    this.#listeners.get(vector)?.(1);
  }

  intx(): LineInterrupt {
    this.active = "intx";
    const unmask = (): void => {
      if (this.level) this.raise(0);
    };
    return Object.assign(this.#vector(0), { automasked: true, mask: () => undefined, unmask });
  }
  msi(count = 1): readonly Interrupt[] {
    return this.#switchOn("msi", 0, count);
  }
  msix(count = 1): readonly Interrupt[] {
    return this.#switchOn("msix", 0, count);
  }
  addMsix(first: number, count: number): readonly Interrupt[] {
    return this.#switchOn("msix", first, count);
  }
  disable(): void {
    this.log.push("disable");
    this.active = "none";
    this.#listeners.clear();
  }

  #switchOn(kind: "msi" | "msix", first: number, count: number): readonly Interrupt[] {
    this.log.push(`${kind} ${first} ${count}`);
    this.active = kind;
    return Array.from({ length: count }, (_, i) => this.#vector(first + i));
  }

  #vector(vector: number): Interrupt {
    const listen = (listener: (count: number) => void): Disposable => {
      this.#listeners.set(vector, listener);
      return { [Symbol.dispose]: () => void this.#listeners.delete(vector) };
    };
    return { vector, listen } as unknown as Interrupt;
  }
}

function opened(growable = true): {
  real: RealInterrupts;
  interrupts: MediatedInterrupts;
  observers: Observers;
} {
  const config = new virtual.VirtualConfig({
    vendorId: 1,
    deviceId: 2,
    classCode: 0xff0000,
    interruptPin: "A",
    capabilities: [virtual.pcie(), virtual.msi({ vectors: 4 }), virtual.msix({ vectors: 8, table: { bar: 2 } })],
  });
  const real = new RealInterrupts(growable);
  const failed = (error: unknown): never => {
    throw error;
  };
  const observers: Observers = new Observers(() => interrupts.followObservers(), failed);
  const interrupts: MediatedInterrupts = new MediatedInterrupts(config, { real, observers, failed, inUse: () => true });
  interrupts.gate({ awake: true, busMaster: true, held: false });
  return { real, interrupts, observers };
}

const sink = (event: EventFd): virtual.InterruptSink => ({
  descriptor: event.fd.number,
  signal: () => event.write(),
});

test("eventfds are attached as they come, vectors are added, and one is taken away", () => {
  const { real, interrupts } = opened();
  using event = new EventFd();
  interrupts.connectAll("msix", 0, [sink(event), sink(event)]);
  assert.equal(interrupts.direct, true);
  interrupts.connectAll("msix", 1, [undefined]);
  interrupts.connectAll("msix", 3, [sink(event)]);
  assert.deepEqual(real.log, ["attach msix 0 fd fd", "attach msix 1 -", "attach msix 3 fd"]);
  assert.throws(() => interrupts.connectAll("msi", 0, [sink(event)]), { code: "INTERRUPTS_BUSY", errno: "EINVAL" });
  interrupts.disconnect("msix");
  assert.equal(real.log.at(-1), "disable");
  interrupts.connectAll("msi", 0, [sink(event), sink(event), sink(event)]);
  assert.equal(real.log.at(-1), "attach msi 0 fd fd fd -");
  assert.equal(interrupts.msiConnected, 4);
});

test("where vectors cannot be added all are set up anew, and signalled once for what may be lost", () => {
  const { real, interrupts } = opened(false);
  using event = new EventFd();
  interrupts.connectAll("msix", 0, [sink(event)]);
  interrupts.connectAll("msix", 5, [sink(event)]);
  assert.deepEqual(real.log, ["attach msix 0 fd", "disable", "attach msix 0 fd - - - - fd"]);
  assert.equal(event.read(), 2);
});

test("whoever begins to watch sees every interrupt, and the way back is the direct one", () => {
  const { real, interrupts, observers } = opened();
  using event = new EventFd();
  interrupts.connectAll("msix", 0, [sink(event)]);
  const seen: InterruptObservation[] = [];
  const watching = observers.add({ interrupt: (one) => seen.push(one) });
  assert.equal(interrupts.direct, false);
  // What may have been lost in between is signalled once.
  assert.equal(event.read(), 1);
  real.raise(0);
  assert.equal(event.read(), 1);
  assert.deepEqual(seen, [{ kind: "raised", interrupt: "msix", vector: 0, count: 1 }]);
  interrupts.connectAll("msix", 2, [sink(event)]);
  assert.deepEqual(real.log.slice(-2), ["msix 0 1", "msix 1 2"]);
  real.raise(2);
  assert.equal(event.read(), 1);
  watching[Symbol.dispose]();
  assert.equal(interrupts.direct, true);
  assert.equal(real.log.at(-1), "attach msix 0 fd - fd");
});

test("a signal without an eventfd is passed on", () => {
  const { real, interrupts } = opened();
  let signals = 0;
  interrupts.connectAll("msi", 0, [{ signal: () => void signals++ }]);
  assert.equal(interrupts.direct, false);
  real.raise(0);
  assert.equal(signals, 1);
});

test("the line fires again where the device still asks when it is unmasked", () => {
  const { real, interrupts } = opened();
  let signals = 0;
  interrupts.connectAll("intx", 0, [{ signal: () => void signals++ }]);
  real.level = true;
  real.raise(0);
  assert.equal(signals, 1);
  interrupts.unmaskLine();
  assert.equal(signals, 2);
  real.level = false;
  interrupts.unmaskLine();
  assert.equal(signals, 2);
});
