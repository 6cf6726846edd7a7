// The rule set `linux` against the kernel itself: one sequence of accesses to config space, made of a seed, runs on a
// function through the kernel's vfio-pci and then, on the same function, through the mediator on the raw registers. As root.
// Words: accesses, seed, addresses. Prints one line of JSON for each.
import { writeFileSync } from "node:fs";
import { sysfsAccess } from "../../../packages/ring3/src/host/index.ts";
import { open } from "../../../packages/ring3/src/index.ts";
import { ConfigPlan } from "../../../packages/ring3/src/mediation/config-plan.ts";
import { linux } from "../../../packages/ring3/src/mediation/index.ts";
import { MediatedConfig } from "../../../packages/ring3/src/mediation/mediated-config.ts";
import { Observers } from "../../../packages/ring3/src/mediation/observer.ts";
import { RegisterActions } from "../../../packages/ring3/src/mediation/register-actions.ts";
import { PciAddress, ResourceFlag } from "../../../packages/ring3/src/pci/index.ts";
import { ConfigSpace } from "../../../packages/ring3/src/pci/config-space.ts";
import type { BarIndex } from "../../../packages/ring3/src/pci/function.ts";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import type { BarDeclaration } from "../../../packages/ring3/src/virtual/declaration.ts";

const [countText = "1000", seedText = "1", ...addresses] = process.argv.slice(2);
const count = Number(countText);

type Step =
  | { readonly kind: "read"; readonly at: number; readonly size: number }
  | { readonly kind: "write"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "reset" };

/** What both sides offer. */
interface Side {
  read(at: number, size: number): Uint8Array;
  write(at: number, bytes: Uint8Array): void;
  reset(): Promise<void>;
}

function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Most accesses go to what is there: the header and the capabilities. */
function steps(size: number, places: readonly number[], seed: number): Step[] {
  const random = generator(seed);
  const below = (limit: number): number => Math.floor(random() * limit);
  return Array.from({ length: count }, (_, index): Step => {
    if (index % 500 === 499) return { kind: "reset" };
    const length = [1, 2, 4, 4, 4, 2, 1, 3, 8, 12][below(10)] ?? 4;
    const near = places[below(places.length)] ?? 0;
    const wish = random() < 0.9 ? near + below(32) : below(size);
    const aligned = random() < 0.7 && length <= 4 ? wish - (wish % (length === 3 ? 1 : length)) : wish;
    const at = Math.min(aligned, size - length);
    if (random() < 0.6) return { kind: "read", at, size: length };
    const chosen = below(4);
    const bytes = Uint8Array.from({ length }, () => (chosen === 0 ? 0xff : chosen === 1 ? 0 : below(256)));
    return { kind: "write", at, bytes };
  });
}

async function run(side: Side, list: readonly Step[]): Promise<string[]> {
  const seen: string[] = [];
  for (const step of list) {
    if (step.kind === "read") seen.push(Buffer.from(side.read(step.at, step.size)).toString("hex"));
    else if (step.kind === "write") side.write(step.at, step.bytes);
    else await side.reset();
  }
  return seen;
}

async function compare(address: string): Promise<void> {
  const [found] = sysfsAccess({ addresses: [PciAddress.parse(address)] }).functions;
  if (found === undefined) throw new Error(`no ${address}`);
  const hardware = new ConfigSpace(found.config);
  const { facts } = found;

  // First the kernel's view. Opening it writes COMMAND, as a user does.
  const fn = await open(address);
  const before = hardware.readBytes(0, hardware.size);
  const { size } = fn.config;
  const places = [
    0,
    0x10,
    0x20,
    0x34,
    ...fn.config.capabilities().map(({ offset }) => offset),
    ...fn.config.extendedCapabilities().map(({ offset }) => offset),
    ...hardware.capabilities().map(({ offset }) => offset),
  ];
  const list = steps(size, places, Number(seedText));
  const command = fn.config.read16(Header.COMMAND.offset);
  const initial = Buffer.from(fn.config.readBytes(0, size));
  const vectors = fn.interrupts.available;
  const kernel = await run(
    {
      read: (at, length) => fn.config.readBytes(at, length),
      write: (at, bytes) => fn.config.writeBytes(at, bytes),
      reset: async () => {
        if (fn.resetMethods.length > 0) await fn.reset();
        fn.config.writeBytes(4, Uint8Array.of(command & 0xff, command >>> 8));
      },
    },
    list,
  );
  await fn[Symbol.asyncDispose]();

  // Then the raw registers, without any driver, as a kernel's enabling leaves them.
  writeFileSync(`/sys/bus/pci/devices/${address}/driver/unbind`, address);
  const asItBegan = (): void => {
    writeFileSync(`/sys/bus/pci/devices/${address}/reset`, "1");
    // Sticky bits, and bytes that mean nothing to the device, keep what was written.
    for (const [at, byte] of hardware.readBytes(0, hardware.size).entries()) {
      if (byte !== before[at]) hardware.write8(at, before[at] ?? 0);
    }
  };
  asItBegan();
  const resources = facts.resources ?? [];
  const bars: Partial<Record<BarIndex, BarDeclaration>> = {};
  for (const index of [0, 1, 2, 3, 4, 5] as const) {
    const { start = 0n, end = 0n, flags = 0n } = resources[index] ?? {};
    if (start === 0n) continue;
    const kind =
      (flags & ResourceFlag.IO) !== 0n ? "io" : (flags & ResourceFlag.MEMORY_64) !== 0n ? "memory64" : "memory32";
    bars[index] = { kind, size: Number(end - start + 1n), prefetchable: (flags & ResourceFlag.PREFETCH) !== 0n };
  }
  const rom = resources[6];
  hardware.write16(Header.COMMAND.offset, command);
  const plan = new ConfigPlan(hardware, { rules: linux, hide: [], vectors });
  const pin = initial[Header.INTERRUPT_PIN.offset] ?? 0;
  const letter = (["A", "B", "C", "D"] as const)[pin - 1];
  const config = new MediatedConfig(
    {
      vendorId: facts.vendorId ?? 0,
      deviceId: facts.deviceId ?? 0,
      classCode: facts.classCode ?? 0,
      ...(letter === undefined ? {} : { interruptPin: letter }),
      bars,
      ...(rom === undefined || rom.start === 0n ? {} : { rom: new Uint8Array(Number(rom.end - rom.start + 1n)) }),
      capabilities: plan.builders,
    },
    {},
    {
      plan,
      hardware,
      use: () => "used",
      observers: new Observers(
        () => undefined,
        (error) => {
          throw error;
        },
      ),
      actions: (copy) =>
        new RegisterActions(
          plan,
          hardware,
          copy,
          {},
          {
            busMasterRefusal: () => undefined,
            msiConnected: () => 0,
            resetting: (_kind, reset) => reset(),
            refused: () => undefined,
            failed: (error) => {
              throw error;
            },
          },
        ),
    },
  );
  const read = (at: number, length: number): Uint8Array => {
    const bytes = new Uint8Array(length);
    config.readInto(at, bytes);
    return bytes;
  };
  config.write(Header.COMMAND.offset, 2, command);
  const differences: { at: number; size: number; step: number; kernel: string; ring3: string; name: string }[] = [];
  const first = Buffer.from(read(0, size));
  for (let at = 0; at < size; at++) {
    if (first[at] !== initial[at]) {
      differences.push({
        at,
        size: 1,
        step: -1,
        kernel: String(initial[at]),
        ring3: String(first[at]),
        name: plan.nameAt(at),
      });
    }
  }
  // VFIO wakes a function before it resets it, and gives it back what it had when it fell asleep: what was written to its
  // registers meanwhile is lost. The kernel's PCI core, which resets it here, does not know that it sleeps.
  const power = plan.hooks.find(({ hook }) => hook === "power");
  const wake = (): void => {
    if (power === undefined) return;
    const control = hardware.read16(power.at);
    if ((control & 3) !== 0) config.write(power.at, 2, control & ~3);
  };
  const raw = await run(
    {
      read,
      write: (at, bytes) => config.writeFrom(at, bytes),
      reset: async () => {
        wake();
        writeFileSync(`/sys/bus/pci/devices/${address}/reset`, "1");
        // A kernel switches bus mastering off before, and its user decoding on afterwards.
        config.write(Header.COMMAND.offset, 2, command);
        await Promise.resolve();
      },
    },
    list,
  );
  // Others use the function afterwards.
  wake();
  asItBegan();
  const reads = list.flatMap((step, index) => (step.kind === "read" ? [{ ...step, index }] : []));
  for (const [number, { at, size: length, index }] of reads.entries()) {
    if (kernel[number] === raw[number]) continue;
    differences.push({
      at,
      size: length,
      step: index,
      kernel: kernel[number] ?? "",
      ring3: raw[number] ?? "",
      name: plan.nameAt(at),
    });
  }
  console.log(
    JSON.stringify({
      address,
      accesses: list.length,
      compared: reads.length,
      differences: differences.length,
      shown: differences
        .filter(({ at }, index) => differences.findIndex((other) => other.at === at) === index)
        .slice(0, 12),
    }),
  );
}

for (const address of addresses) await compare(address);
