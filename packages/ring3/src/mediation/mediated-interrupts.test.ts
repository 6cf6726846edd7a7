// Which way interrupts take: straight from the real function to the user's eventfds, or heard and passed on.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { EventFd } from "../linux/event-fd.ts";
import type { PciFunction } from "../pci/function.ts";
import { Header } from "../pci/header.ts";
import * as virtual from "../virtual/index.ts";
import { type InterruptObservation, linux, type MediatedFunction, mediate } from "./index.ts";

class Raiser extends virtual.VirtualFunction {
  constructor() {
    super({
      vendorId: 1,
      deviceId: 2,
      classCode: 0xff0000,
      interruptPin: "A",
      bars: { 0: { size: 4096 } },
      capabilities: [virtual.pcie(), virtual.msi({ vectors: 4 }), virtual.msix({ vectors: 8, table: { bar: 2 } })],
    });
  }
}

/** The device's function with `attach`, as the kernel's back end has it, noted down. */
function attachable(fn: PciFunction, log: string[]): PciFunction {
  const { interrupts } = fn;
  let active: "none" | "intx" | "msi" | "msix" = "none";
  const attached = new Proxy(interrupts, {
    get(target, name) {
      if (name === "attach") {
        return (kind: "msi" | "msix", first: number, descriptors: readonly (number | undefined)[]) => {
          active = kind;
          log.push(
            `attach ${kind} ${first} ${descriptors.map((number) => (number === undefined ? "-" : "fd")).join(" ")}`,
          );
        };
      }
      if (name === "active") return active === "none" ? target.active : active;
      if (name === "disable") {
        return () => {
          log.push("disable");
          active = "none";
          target.disable();
        };
      }
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value as (...words: unknown[]) => unknown).bind(target) : value;
    },
  });
  return new Proxy(fn, {
    get(target, name) {
      if (name === "interrupts") return attached;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value as (...words: unknown[]) => unknown).bind(target) : value;
    },
  });
}

async function opened(log: string[]): Promise<{ device: Raiser; mediated: MediatedFunction }> {
  const device = new Raiser();
  const mediated = await mediate(attachable(virtual.inProcess(device), log), { rules: linux });
  mediated.connect({ name: "a test" });
  mediated.config.write(Header.COMMAND.offset, 2, 6);
  log.length = 0;
  return { device, mediated };
}

const sink = (event: EventFd): virtual.InterruptSink => ({
  descriptor: event.fd.number,
  signal: () => event.write(),
});

test("eventfds are attached as they come, vectors are added, and one is taken away", async () => {
  const log: string[] = [];
  const { mediated } = await opened(log);
  using event = new EventFd();
  mediated.interrupts.connectAll("msix", 0, [sink(event), sink(event)]);
  assert.equal(mediated.interrupts.direct, true);
  mediated.interrupts.connectAll("msix", 1, [undefined]);
  mediated.interrupts.connectAll("msix", 3, [sink(event)]);
  assert.deepEqual(log, ["attach msix 0 fd fd", "attach msix 1 -", "attach msix 3 fd"]);
  assert.throws(() => mediated.interrupts.connectAll("msi", 0, [sink(event)]), {
    code: "INTERRUPTS_BUSY",
    errno: "EINVAL",
  });
  mediated.interrupts.disconnect("msix");
  assert.equal(log.at(-1), "disable");
  mediated.interrupts.connectAll("msi", 0, [sink(event), sink(event), sink(event)]);
  assert.equal(log.at(-1), "attach msi 0 fd fd fd -");
});

test("whoever begins to watch sees every interrupt, and the way back is the direct one", async () => {
  const log: string[] = [];
  const { device, mediated } = await opened(log);
  using event = new EventFd();
  mediated.interrupts.connectAll("msix", 0, [sink(event)]);
  const seen: InterruptObservation[] = [];
  const watching = mediated.observe({ interrupt: (one) => seen.push(one) });
  assert.equal(mediated.interrupts.direct, false);
  // What may have been lost in between is signalled once.
  assert.equal(event.read(), 1);
  device.interrupts.raise(0);
  await turn();
  await turn();
  assert.equal(event.read(), 1);
  assert.deepEqual(seen, [{ kind: "raised", interrupt: "msix", vector: 0, count: 1 }]);
  watching[Symbol.dispose]();
  assert.equal(mediated.interrupts.direct, true);
  assert.equal(log.at(-1), "attach msix 0 fd");
});

test("a signal without an eventfd is passed on", async () => {
  const { device, mediated } = await opened([]);
  let signals = 0;
  mediated.interrupts.connectAll("msi", 0, [{ signal: () => void signals++ }]);
  assert.equal(mediated.interrupts.direct, false);
  device.interrupts.raise(0);
  await turn();
  await turn();
  assert.equal(signals, 1);
});

test("the line fires again where the device still asks when it is unmasked", async () => {
  const { device, mediated } = await opened([]);
  let signals = 0;
  mediated.interrupts.connectAll("intx", 0, [{ signal: () => void signals++ }]);
  device.interrupts.level(true);
  await turn();
  await turn();
  assert.equal(signals, 1);
  mediated.interrupts.unmaskLine();
  await turn();
  await turn();
  assert.equal(signals, 2);
  device.interrupts.level(false);
  mediated.interrupts.unmaskLine();
  await turn();
  await turn();
  assert.equal(signals, 2);
});
