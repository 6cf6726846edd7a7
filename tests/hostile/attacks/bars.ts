// Attacks by the device's own registers, and by its interrupts.
import assert from "node:assert/strict";
import { Command, Irq, IrqSetFlag } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { Attack, Scene } from "./attack.ts";
import { masterOn } from "./dma.ts";
import {
  access,
  bytesOf,
  event,
  file,
  irqs,
  msixPlaces,
  nameOf,
  peek,
  poke,
  regionInfo,
  regionSize,
  SIGNALS,
  vectorsOf,
  word,
} from "./wire.ts";

const BARS = "BARs";
const INTERRUPTS = "Interrupts";
const ALL_ONES = 0xffff_ffff;
const SET_IRQS = Command.DEVICE_SET_IRQS;
/** How the region's pages can be mapped, in the flags of its description. */
const MAPPABLE = 4;
const BAR_COUNT = 6;

function ranges({ registers }: Scene): NonNullable<Scene["registers"]["ranges"]> {
  return registers.ranges ?? assert.fail("no range is kept here");
}

export const barAttacks: readonly Attack[] = [
  {
    group: BARS,
    what: "read a range that a rule hides",
    outcome: "ones",
    needs: ["ranges"],
    run: async (scene) => {
      const { hidden, shadow } = ranges(scene);
      assert.notEqual(await peek(scene.client, shadow), ALL_ONES);
      return (await peek(scene.client, hidden)) === ALL_ONES ? "ones" : "the register";
    },
  },
  {
    group: BARS,
    what: "write a range that a rule makes read-only",
    outcome: "the write is dropped",
    needs: ["ranges"],
    run: async (scene) => {
      const { readOnly } = ranges(scene);
      const before = await peek(scene.client, readOnly);
      await poke(scene.client, readOnly, before ^ 7);
      assert.ok((await scene.hits("bar-read-only")) > 0);
      return (await peek(scene.client, readOnly)) === before ? "the write is dropped" : "it is written";
    },
  },
  {
    group: BARS,
    what: "write a hidden register by an access that begins before the range",
    outcome: "the write is dropped",
    needs: ["ranges"],
    run: async (scene) => {
      const { hidden, shadow } = ranges(scene);
      const before = await peek(scene.client, shadow);
      const bytes = [...bytesOf(0, 4), ...bytesOf(before ^ 2, 4)];
      await scene.client.errno(Command.REGION_WRITE, access(0, hidden - 4, 8, bytes));
      return (await peek(scene.client, shadow)) === before ? "the write is dropped" : "it is written";
    },
  },
  {
    group: BARS,
    what: "flood a range that a rule limits",
    outcome: "as many writes pass as the rule allows",
    needs: ["ranges"],
    run: async (scene) => {
      const { limited, writesPerSecond } = ranges(scene);
      const begun = performance.now();
      let written = 0;
      let passed = 0;
      // What an earlier user wrote there counts as well, since the rule is for the device's sake: a budget may have to fill again.
      while (passed < writesPerSecond) {
        for (let at = 0; at < 100; at++) await poke(scene.client, limited, at);
        written += 100;
        passed = written - (await scene.hits("bar-rate"));
      }
      const allowed = writesPerSecond * (1 + (performance.now() - begun) / 1000);
      assert.ok(passed <= allowed, `${passed} of ${written} writes pass, not ${allowed}`);
      return "as many writes pass as the rule allows";
    },
  },
  {
    group: BARS,
    what: "read and write beyond the end of a BAR",
    outcome: "EINVAL",
    run: async ({ client }) => {
      const outcomes = new Set<string>();
      for (let bar = 0; bar < BAR_COUNT; bar++) {
        const size = await regionSize(client, bar);
        for (const at of size === 0 ? [] : [BigInt(size), BigInt(size - 2), 2n ** 64n - 2n]) {
          outcomes.add(nameOf(await client.errno(Command.REGION_READ, access(bar, at, 4))));
          outcomes.add(nameOf(await client.errno(Command.REGION_WRITE, access(bar, at, 4, [1, 2, 3, 4]))));
        }
      }
      return [...outcomes].join(", ");
    },
  },
  {
    group: BARS,
    what: "get a descriptor of the device's pages",
    outcome: "none is offered: accesses go by message",
    run: async ({ client }) => {
      for (let bar = 0; bar < BAR_COUNT; bar++) {
        const { payload, fds } = await regionInfo(client, bar);
        assert.equal(fds.length, 0);
        if (((payload[4] ?? 0) & MAPPABLE) !== 0) return `one of BAR ${bar} is offered`;
      }
      return "none is offered: accesses go by message";
    },
  },
  {
    group: BARS,
    what: "write the MSI-X table: an address and data of the user's choice",
    outcome: "only the user's copy changes",
    needs: ["msix-table"],
    run: async (scene) => {
      const { config, tableEntry: before } = await scene.view();
      const { bar, offset: table } = msixPlaces(config).table;
      assert.ok(before !== undefined && word(before, 0) !== ALL_ONES);
      const entry = [0xfee0_0abc & ~3, 0, 0x41, 0];
      for (const [index, value] of entry.entries()) await poke(scene.client, table + 4 * index, value, bar);
      assert.equal(await peek(scene.client, table + 8, bar), 0x41);
      const { tableEntry: after } = await scene.view();
      return word(before, 0) === word(after ?? before, 0) && word(before, 8) === word(after ?? before, 8)
        ? "only the user's copy changes"
        : "the device's table changes";
    },
  },
  {
    group: BARS,
    what: "write the pending bits of MSI-X",
    outcome: "the write is dropped",
    needs: ["msix"],
    run: async (scene) => {
      const { bar, offset: pendingBits } = msixPlaces((await scene.view()).config).pendingBits;
      await poke(scene.client, pendingBits, 0xff, bar);
      return (await peek(scene.client, pendingBits, bar)) === 0 ? "the write is dropped" : "it is written";
    },
  },
];

export const interruptAttacks: readonly Attack[] = [
  {
    group: INTERRUPTS,
    what: "connect more vectors than there are",
    outcome: "EINVAL",
    run: async ({ client, registers: { interrupts } }) => {
      using signal = event();
      const last = (await vectorsOf(client, interrupts)) - 1;
      return nameOf(await client.errno(SET_IRQS, irqs(interrupts, last, 2, SIGNALS), { fds: [signal.fd, signal.fd] }));
    },
  },
  {
    group: INTERRUPTS,
    what: "connect vectors whose numbers wrap",
    outcome: "EINVAL",
    run: async ({ client, registers: { interrupts } }) => {
      using signal = event();
      return nameOf(
        await client.errno(SET_IRQS, irqs(interrupts, ALL_ONES, 2, SIGNALS), { fds: [signal.fd, signal.fd] }),
      );
    },
  },
  {
    group: INTERRUPTS,
    what: "connect something that is no eventfd, and would block whoever signals it",
    outcome: "EINVAL",
    run: async ({ client, registers: { interrupts } }) => {
      using memory = file();
      return nameOf(await client.errno(SET_IRQS, irqs(interrupts, 0, 1, SIGNALS), { fds: [memory] }));
    },
  },
  {
    group: INTERRUPTS,
    what: "switch MSI on while MSI-X is",
    outcome: "EINVAL",
    needs: ["msi", "msix"],
    run: async ({ client }) => {
      using signal = event();
      assert.equal(await client.errno(SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [signal.fd] }), 0);
      return nameOf(await client.errno(SET_IRQS, irqs(Irq.MSI, 0, 1, SIGNALS), { fds: [signal.fd] }));
    },
  },
  {
    group: INTERRUPTS,
    what: "have the device signal vectors that are not connected",
    outcome: "nobody is signalled",
    needs: ["raise"],
    run: async (scene) => {
      using signal = event();
      await scene.client.errno(SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [signal.fd] });
      await masterOn(scene);
      for (const vector of [1, 7, 8, ALL_ONES]) await poke(scene.client, scene.registers.raise ?? 0, vector);
      assert.equal(await scene.neighbour.strayInterrupts(), 0);
      return signal.read() === 0 ? "nobody is signalled" : "a signal came";
    },
  },
  {
    group: INTERRUPTS,
    what: "raise interrupts of another user by software",
    outcome: "only the user's own signal is raised",
    run: async ({ client, neighbour, registers: { interrupts } }) => {
      using own = event();
      const flags = IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER;
      assert.equal(await client.errno(SET_IRQS, irqs(interrupts, 0, 1, SIGNALS), { fds: [own.fd] }), 0);
      assert.equal(await client.errno(SET_IRQS, irqs(interrupts, 0, 1, flags)), 0);
      const theirs = await neighbour.strayInterrupts();
      return own.read() === 1 && theirs === 0 ? "only the user's own signal is raised" : "the other's is raised";
    },
  },
];
