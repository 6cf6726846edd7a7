// A controller that lies: in its registers, in the data that it gives, in its completions. It gets an error, a reset, or
// is given up; never a hang, never a crash.
// seconds: 1
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type FakeCommand, FakeNvme } from "../../../../../tests/fakes/fake-nvme.ts";
import { identifies, isRead, quick, running, startFails, turns } from "../../../../../tests/fakes/nvme-scenes.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { Cns } from "../../specs/nvme/commands.ts";
import { Nvme } from "../../specs/nvme/registers.ts";
import { NvmeDriver } from "./index.ts";

// --- Registers that lie ---------------------------------------------------------------------------------------------

const registerLies: readonly [string, string, (offset: number, value: number) => number][] = [
  ["all ones", "NVME_ABSENT", () => 0xffff_ffff],
  ["all zeroes", "NVME_UNSUPPORTED", () => 0],
  ["never ready", "NVME_NOT_READY", (offset, value) => (offset === Nvme.CSTS ? 0 : value)],
  ["fatal at once", "NVME_FATAL", (offset, value) => (offset === Nvme.CSTS && value === 1 ? 3 : value)],
  ["never stops", "NVME_NOT_READY", (offset, value) => (offset === Nvme.CSTS ? 1 : value)],
  ["ones after the start", "NVME_ABSENT", (offset, value) => (offset === Nvme.CSTS ? 0xffff_ffff : value)],
  ["queues of one entry", "NVME_PROTOCOL", (offset, value) => (offset === Nvme.CAP_LOW ? value & 0xffff_0000 : value)],
  ["pages of 128 MiB", "NVME_PROTOCOL", (offset, value) => (offset === Nvme.CAP_HIGH ? value | 0x00ff_0000 : value)],
  [
    "minimum above maximum",
    "NVME_PROTOCOL",
    (offset, value) => (offset === Nvme.CAP_HIGH ? value | 0x0003_0000 : value),
  ],
];
for (const [name, code, register] of registerLies) {
  test(`registers: ${name}`, () => startFails((device) => void (device.hooks.register = register), code));
}

test("registers: doorbells a quarter of a megabyte apart do not fit in the BAR", async () => {
  await startFails((device) => {
    device.hooks.register = (offset, value) => (offset === Nvme.CAP_HIGH ? value | 15 : value);
  }, "REGISTER_RANGE");
});

// --- Data that lies -------------------------------------------------------------------------------------------------

function identifyLie(cns: number, change: (bytes: Uint8Array) => void): (device: FakeNvme) => void {
  return (device) => {
    device.hooks.data = (command, bytes) => {
      if (identifies(command, cns)) change(bytes);
    };
  };
}

test("identify: entries of other sizes", () =>
  startFails(
    identifyLie(Cns.CONTROLLER, (bytes) => void (bytes[512] = 0x77)),
    "NVME_PROTOCOL",
  ));
test("identify: a list of namespaces that does not ascend", () =>
  startFails(
    identifyLie(Cns.ACTIVE_NAMESPACES, (bytes) => bytes.set([5, 0, 0, 0, 5, 0, 0, 0])),
    "NVME_PROTOCOL",
  ));
test("identify: a list of namespaces without end", () =>
  startFails(
    identifyLie(Cns.ACTIVE_NAMESPACES, (bytes) => {
      const ids = new Uint32Array(bytes.buffer, bytes.byteOffset, 1024);
      const first = (ids[0] as number) + 1;
      for (let i = 0; i < 1024; i++) ids[i] = first + i;
    }),
    "NVME_PROTOCOL",
  ));
test("identify: a namespace in the list that does not exist", () =>
  startFails(
    identifyLie(Cns.ACTIVE_NAMESPACES, (bytes) => void (bytes[4] = 9)),
    "NVME_STATUS",
  ));

for (const [name, code, lie] of [
  ["zero-sized blocks", "NVME_PROTOCOL", (bytes: Uint8Array) => bytes.set([0, 0, 0, 0], 128)],
  ["blocks of 2^200", "NVME_PROTOCOL", (bytes: Uint8Array) => bytes.set([0, 0, 200, 0], 128)],
  ["a format that it does not have", "NVME_PROTOCOL", (bytes: Uint8Array) => void (bytes[26] = 15)],
  [
    "metadata in the blocks",
    "NVME_UNSUPPORTED",
    (bytes: Uint8Array) => {
      bytes[128] = 8;
      bytes[26] = 0x10;
    },
  ],
] as const) {
  test(`identify: ${name} make the one namespace unusable`, async () => {
    const device = new FakeNvme();
    device.hooks.data = (command, bytes) => {
      if (identifies(command, Cns.NAMESPACE) && command.words[1] === 1) lie(bytes);
    };
    await using nvme = await NvmeDriver.start(device.fn, { clock: new VirtualClock(), ...quick });
    assert.throws(() => nvme.namespace(1), { code });
    assert.deepEqual(
      nvme.namespaces.map(({ id }) => id),
      [2],
    );
    await nvme.namespace(2).read(0, 1);
  });
}

test("identify: random bytes never hang or crash the start", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 600, maxLength: 4096 }),
      fc.constantFrom(0, 1, 2, 6),
      async (noise, cns) => {
        const device = new FakeNvme();
        device.hooks.data = (command, bytes) => {
          if (identifies(command, cns)) bytes.set(noise);
        };
        await using _ = device.fn;
        try {
          await using nvme = await NvmeDriver.start(device.fn, { clock: new VirtualClock(), ...quick });
          for (const namespace of nvme.namespaces) await namespace.read(0, 1).catch(() => {});
        } catch (error) {
          assert.match(String((error as { code?: string }).code), /^NVME_/);
        }
      },
    ),
    { numRuns: 30 },
  );
});

// --- Completions that lie -------------------------------------------------------------------------------------------

const completionLies: readonly [string, (completion: { cid: number; sqHead: number; sqId: number }) => void][] = [
  ["a command that is not in flight", (completion) => void (completion.cid ^= 0x4000)],
  ["a slot that does not exist", (completion) => void (completion.cid = 0x3ff)],
  ["a head outside the queue", (completion) => void (completion.sqHead = 0xffff)],
  ["a head where nothing was posted", (completion) => void (completion.sqHead += 3)],
  ["another queue", (completion) => void (completion.sqId = 5)],
];
for (const [name, lie] of completionLies) {
  for (const completion of ["polled", "interrupt"] as const) {
    test(`completions: ${name}, ${completion}`, () =>
      running(
        async (nvme, device) => {
          const namespace = nvme.namespace(1);
          await namespace.write(3, new Uint8Array(512).fill(3));
          let lies = 1;
          device.hooks.completion = (entry, command) => {
            if (isRead(command) && lies-- > 0) lie(entry);
          };
          await assert.rejects(namespace.read(3, 1), { code: "NVME_PROTOCOL" });
          // The controller was reset, and honest again it works.
          assert.deepEqual(await namespace.read(3, 1), new Uint8Array(512).fill(3));
          assert.equal(device.enables, 2);
        },
        { completion },
      ));
  }
}

test("completions: a command that completes twice", () =>
  running(async (nvme, device) => {
    const namespace = nvme.namespace(1);
    let first: FakeCommand | undefined;
    device.hooks.command = (command) => {
      if (isRead(command)) first ??= command;
      return undefined;
    };
    await namespace.read(0, 1);
    device.forge({ cid: (first as FakeCommand).cid }, 1);
    await turns(5);
    await namespace.read(0, 1).catch((error: { code: string }) => assert.equal(error.code, "NVME_PROTOCOL"));
    await namespace.read(0, 1);
    assert.equal(device.enables, 2);
  }));

test("a controller that lies for ever is given up", () =>
  running(async (nvme, device) => {
    device.hooks.completion = (entry, command) => {
      if (command.queueId > 0) entry.cid ^= 0x4000;
    };
    const namespace = nvme.namespace(1);
    let removed = "";
    nvme.events.on("removed", ({ code }) => void (removed = code));
    for (let i = 0; i < 12 && removed === ""; i++) await assert.rejects(namespace.read(0, 1));
    assert.equal(removed, "NVME_FAILED");
    await assert.rejects(namespace.read(0, 1), { code: "NVME_FAILED" });
    await assert.rejects(nvme.smart(), { code: "NVME_FAILED" });
  }));
