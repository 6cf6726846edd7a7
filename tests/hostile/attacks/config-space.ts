// Attacks by the registers of config space.
import assert from "node:assert/strict";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { Command, Region } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { Attack } from "./attack.ts";
import { mastering, masterOn } from "./dma.ts";
import { access, capability, configRead, configWrite, MSIX, nameOf, peek, poke, word } from "./wire.ts";

const COMMAND = Header.COMMAND.offset;
const GROUP = "Config space";
const ALL_ONES = 0xffff_ffff;
/** Ids, class, BARs, subsystem, the list of capabilities. */
const FIXED = [0, 8, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x2c, 0x34] as const;
/** Capability ids. */
const PM = 0x01;
const MSI = 0x05;
const VENDOR_SPECIFIC = 0x09;
const EXPRESS = 0x10;
/** Extended. */
const REBAR = 0x15;

export const configAttacks: readonly Attack[] = [
  {
    group: GROUP,
    what: "write ones, zeros and patterns to every offset, by every width",
    outcome: "the real BARs, ids and capabilities are as before",
    run: async (scene) => {
      const { client } = scene;
      const fixed = async (): Promise<number[]> => {
        const { config } = await scene.view();
        return FIXED.map((at) => word(config, at));
      };
      const before = await fixed();
      for (const value of [ALL_ONES, 0, 0xa5a5_a5a5]) {
        for (const width of [1, 2, 4]) {
          for (let at = 0; at < 0x200; at += width) await configWrite(client, at, width, value);
        }
      }
      assert.deepEqual(await fixed(), before);
      return "the real BARs, ids and capabilities are as before";
    },
  },
  {
    group: GROUP,
    what: "move a BAR over another device",
    outcome: "only the user's copy moves",
    run: async (scene) => {
      const { client } = scene;
      const before = word((await scene.view()).config, 0x10);
      await configWrite(client, 0x10, 4, 0xfee0_0000);
      assert.equal(((await configRead(client, 0x10)) & ~0xf) >>> 0, 0xfee0_0000);
      return word((await scene.view()).config, 0x10) === before ? "only the user's copy moves" : "the real BAR moves";
    },
  },
  {
    group: GROUP,
    what: "enlarge a BAR by its resizable-BAR capability",
    outcome: "the capability is not there",
    needs: ["rebar"],
    run: async (scene) => {
      const { client } = scene;
      const before = (await scene.view()).config;
      for (let at = 0x100; at < 0x1000; at += 4) await configWrite(client, at, 4, 0x1500);
      const ids: number[] = [];
      for (let at = 0x100; at !== 0; ) {
        const head = await configRead(client, at);
        ids.push(head & 0xffff);
        at = head >>> 20;
      }
      assert.deepEqual((await scene.view()).config.subarray(0x100), before.subarray(0x100));
      return ids.includes(REBAR) ? "the capability is there" : "the capability is not there";
    },
  },
  {
    group: GROUP,
    what: "change registers of the vendor's own in config space",
    outcome: "the write is dropped",
    needs: ["vendor-specific"],
    run: async (scene) => {
      const { client } = scene;
      const { config } = await scene.view();
      const at = capability(config, VENDOR_SPECIFIC);
      await configWrite(client, at, 4, ALL_ONES);
      assert.ok((await scene.hits("config-write")) > 0);
      return word((await scene.view()).config, at) === word(config, at) ? "the write is dropped" : "it is written";
    },
  },
  {
    group: GROUP,
    what: "switch MSI-X on by its register, without signals",
    outcome: "the write is dropped",
    needs: ["msix"],
    run: async (scene) => {
      const { client } = scene;
      const at = capability((await scene.view()).config, MSIX);
      await configWrite(client, at + 2, 2, 0x8000);
      return word((await scene.view()).config, at) >>> 31 === 0 ? "the write is dropped" : "it is on";
    },
  },
  {
    group: GROUP,
    what: "point MSI at an address of the user's choice",
    outcome: "only the user's copy changes",
    needs: ["msi"],
    run: async (scene) => {
      const { client } = scene;
      const at = capability((await scene.view()).config, MSI);
      await configWrite(client, at + 4, 4, 0xdead_bee0);
      await configWrite(client, at + 2, 2, 0x0001);
      assert.equal((await configRead(client, at + 4)) >>> 0, 0xdead_bee0);
      const { config } = await scene.view();
      const enabled = (word(config, at) >>> 16) & 1;
      return enabled === 0 && word(config, at + 4) !== 0xdead_bee0
        ? "only the user's copy changes"
        : "the device would write there";
    },
  },
  {
    group: GROUP,
    what: "read and write beyond the end of config space, and across it",
    outcome: "EINVAL",
    run: async ({ client }) => {
      const outcomes = new Set<string>();
      for (const at of [0x1000, 0xffe, 0xffff_ffff]) {
        outcomes.add(nameOf(await client.errno(Command.REGION_READ, access(Region.CONFIG, at, 4))));
        outcomes.add(nameOf(await client.errno(Command.REGION_WRITE, access(Region.CONFIG, at, 4, [1, 2, 3, 4]))));
      }
      return [...outcomes].join(", ");
    },
  },
  {
    group: GROUP,
    what: "reset the function by FLR while it is set up",
    outcome: "the function is reset, its BARs answer, and the neighbour is untouched",
    needs: ["flr"],
    run: async (scene) => {
      const { client, registers, neighbour } = scene;
      const at = capability((await scene.view()).config, EXPRESS);
      await masterOn(scene);
      if (registers.mark !== undefined) await poke(client, registers.mark.offset, registers.mark.value);
      await configWrite(client, at + 8, 2, 0x8000);
      await configWrite(client, COMMAND, 2, 2);
      assert.equal(await mastering(scene), false);
      if (registers.mark !== undefined)
        assert.notEqual(await peek(client, registers.mark.offset), registers.mark.value);
      assert.notEqual(await peek(client, 0), ALL_ONES);
      await neighbour.check();
      return "the function is reset, its BARs answer, and the neighbour is untouched";
    },
  },
  {
    group: GROUP,
    what: "send the function to sleep and access it",
    outcome: "reads give ones, writes are dropped, and D0 brings it back",
    needs: ["pm", "mark"],
    run: async (scene) => {
      const { client, registers } = scene;
      const { offset, value } = registers.mark ?? assert.fail();
      const at = capability((await scene.view()).config, PM);
      await configWrite(client, at + 4, 2, 3);
      assert.equal(await peek(client, offset), ALL_ONES);
      await poke(client, offset, value);
      await configWrite(client, at + 4, 2, 0);
      await configWrite(client, COMMAND, 2, 2);
      assert.ok(![value, ALL_ONES].includes(await peek(client, offset)));
      return "reads give ones, writes are dropped, and D0 brings it back";
    },
  },
];
