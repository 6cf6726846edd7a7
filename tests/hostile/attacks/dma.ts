// Attacks by the device's memory accesses, and by what is mapped for them.
import assert from "node:assert/strict";
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { FileDescriptor, MappedMemory } from "../../../packages/ring3/src/linux/index.ts";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { Command } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { Attack, Scene, Trait } from "./attack.ts";
import { configWrite, file, map, nameOf, unmap, word } from "./wire.ts";

const COMMAND = Header.COMMAND.offset;
const BUS_MASTER = 6;
const MAP = Command.DMA_MAP;
const GROUP = "DMA";
const FAULTS = "the device's access faults";
/** What fills the attacker's own memory: anything that a device that fails to read does not make up. */
const OWN = 0x4141_4141;
/** Where the attacker maps its own memory: devices with 28 address bits reach it. */
const AT = 0x1000_0000 - 0x10_0000;
const READS: readonly Trait[] = ["dma"];

export async function mapping(scene: Scene, payload: Uint8Array, size?: number): Promise<string> {
  using memory = file(size);
  return nameOf(await scene.client.errno(MAP, payload, { fds: [memory] }));
}

/** Maps 4 pages of the attacker's own at `address`, full of {@link OWN}: filled afterwards, as it is one memory for both. */
async function mapOwn(scene: Scene, address: number, flags = 3): Promise<MappedMemory> {
  using memory = file();
  const mapped = MappedMemory.file(memory, 0, 0x4000);
  assert.equal(nameOf(await scene.client.errno(MAP, map(address, 0x4000, 0n, flags), { fds: [memory] })), "done");
  mapped.bytes.fill(OWN & 0xff);
  return mapped;
}

async function reading(scene: Scene, address: number, expected: number): Promise<string> {
  const reached = await scene.registers.reads?.(scene.client, address, expected);
  assert.notEqual(reached, undefined);
  return reached === true ? "the device reads it" : FAULTS;
}

async function writing(scene: Scene, address: number): Promise<string> {
  const reached = await scene.registers.writes?.(scene.client, address);
  assert.notEqual(reached, undefined);
  return reached === true ? "the device writes it" : FAULTS;
}

export async function masterOn(scene: Scene): Promise<void> {
  await configWrite(scene.client, COMMAND, 2, BUS_MASTER);
}

/** Whether the hardware's own bus mastering is on. */
export async function mastering(scene: Scene): Promise<boolean> {
  return (word((await scene.view()).config, COMMAND) & 4) !== 0;
}

export const dmaAttacks: readonly Attack[] = [
  {
    group: GROUP,
    what: "have the device read another user's memory, at that user's addresses",
    outcome: FAULTS,
    needs: READS,
    run: async (scene) => {
      await masterOn(scene);
      return await reading(scene, scene.neighbour.iova, scene.neighbour.content);
    },
  },
  {
    group: GROUP,
    what: "have the device write another user's memory, at that user's addresses",
    outcome: FAULTS,
    needs: READS,
    run: async (scene) => {
      await masterOn(scene);
      return await writing(scene, scene.neighbour.iova);
    },
  },
  {
    group: GROUP,
    what: "map the same addresses as another user, and read and write there",
    outcome: "the device reads and writes the attacker's own page",
    needs: READS,
    run: async (scene) => {
      using own = await mapOwn(scene, scene.neighbour.iova);
      await masterOn(scene);
      assert.equal(await reading(scene, scene.neighbour.iova, OWN), "the device reads it");
      assert.equal(await writing(scene, scene.neighbour.iova), "the device writes it");
      assert.ok(own.bytes.subarray(0, 16).some((byte) => byte !== (OWN & 0xff)));
      return "the device reads and writes the attacker's own page";
    },
  },
  {
    group: GROUP,
    what: "have the device read and write the host's own memory, at its physical address",
    outcome: FAULTS,
    needs: READS,
    run: async (scene) => {
      await masterOn(scene);
      assert.equal(await reading(scene, scene.host.address, scene.host.content), FAULTS);
      return await writing(scene, scene.host.address);
    },
  },
  {
    group: GROUP,
    what: "map over a range that is mapped already",
    outcome: "EEXIST",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x2000)), "done");
      return await mapping(scene, map(0x2000, 0x2000));
    },
  },
  {
    group: GROUP,
    what: "map a range that wraps around at 2^64",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2n ** 64n - 0x1000n, 0x2000)),
  },
  {
    group: GROUP,
    what: "map a range beyond 2^53, where numbers would round",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2n ** 53n - 0x1000n, 0x2000)),
  },
  {
    group: GROUP,
    what: "map over the window of interrupt messages (0xfee00000)",
    outcome: "EINVAL",
    needs: ["message-window"],
    run: (scene) => mapping(scene, map(0xfee0_0000, 0x1000)),
  },
  {
    group: GROUP,
    what: "map beyond the address bits of the IOMMU",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2 ** 50, 0x1000)),
  },
  { group: GROUP, what: "map no bytes", outcome: "EINVAL", run: (scene) => mapping(scene, map(0x1000, 0)) },
  {
    group: GROUP,
    what: "map half a page, so that the rest of it comes along",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x800)),
  },
  {
    group: GROUP,
    what: "map at an address in the middle of a page",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1800, 0x1000)),
  },
  {
    group: GROUP,
    what: "map more bytes than the file has",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x8000), 0x4000),
  },
  {
    group: GROUP,
    what: "map at a file offset whose end wraps",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x2000, 2n ** 64n - 0x1000n)),
  },
  {
    group: GROUP,
    what: "truncate the file after mapping it",
    outcome: "the file is sealed: it cannot shrink",
    run: async (scene) => {
      using memory = file();
      assert.equal(await scene.client.errno(MAP, map(0x1000, 0x4000), { fds: [memory] }), 0);
      assert.throws(() => ftruncateSync(memory.number, 0x1000), { code: "EPERM" });
      return "the file is sealed: it cannot shrink";
    },
  },
  {
    group: GROUP,
    what: "have the device write memory that was mapped for reading",
    outcome: FAULTS,
    needs: READS,
    run: async (scene) => {
      using _own = await mapOwn(scene, AT, 1);
      await masterOn(scene);
      return await writing(scene, AT);
    },
  },
  {
    group: GROUP,
    what: "map a read-only descriptor for the device to write",
    outcome: "EACCES",
    run: async (scene) => {
      using memory = file();
      using readOnly = new FileDescriptor(openSync(`/proc/self/fd/${memory.number}`, "r"));
      return nameOf(await scene.client.errno(MAP, map(0x1000, 0x4000), { fds: [readOnly] }));
    },
  },
  {
    group: GROUP,
    what: "map a device node instead of memory",
    outcome: "EINVAL",
    run: async (scene) => {
      const number = openSync("/dev/zero", "r+");
      try {
        using device = new FileDescriptor(number);
        return nameOf(await scene.client.errno(MAP, map(0x1000, 0x4000), { fds: [device] }));
      } finally {
        try {
          closeSync(number);
        } catch {
          // It was the descriptor's.
        }
      }
    },
  },
  {
    group: GROUP,
    what: "lock more memory than is allowed, in one map",
    outcome: "ENOMEM",
    run: (scene) => mapping(scene, map(0x1000_0000, 0x20_0000), 0x20_0000),
  },
  {
    group: GROUP,
    what: "lock more memory than is allowed, by one file mapped again and again",
    outcome: "ENOMEM",
    run: async (scene) => {
      using memory = file(0x4_0000);
      for (let at = 0; ; at++) {
        const errno = await scene.client.errno(MAP, map(0x1000_0000 + at * 0x4_0000, 0x4_0000), { fds: [memory] });
        if (errno !== 0) return nameOf(errno);
        assert.ok((await scene.view()).lockedBytes <= 0x10_0000);
      }
    },
  },
  {
    group: GROUP,
    what: "exhaust the IOMMU's entries with small maps",
    outcome: "ENOSPC",
    run: async (scene) => {
      using memory = file(0x1000);
      for (let at = 0; ; at++) {
        const errno = await scene.client.errno(MAP, map(0x1000_0000 + at * 0x2000, 0x1000), { fds: [memory] });
        if (errno !== 0) return nameOf(errno);
      }
    },
  },
  {
    group: GROUP,
    what: "unmap a part of a map, to confuse what is left",
    outcome: "EINVAL",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      return nameOf(await scene.client.errno(Command.DMA_UNMAP, unmap(0x2000, 0x1000)));
    },
  },
  {
    group: GROUP,
    what: "have the device use memory after it was unmapped",
    outcome: FAULTS,
    needs: READS,
    run: async (scene) => {
      using _own = await mapOwn(scene, AT);
      await masterOn(scene);
      assert.equal(await reading(scene, AT, OWN), "the device reads it");
      assert.equal(await scene.client.errno(Command.DMA_UNMAP, unmap(AT, 0x4000)), 0);
      return await reading(scene, AT, OWN);
    },
  },
  {
    group: GROUP,
    what: "have the device access memory with bus mastering off",
    outcome: FAULTS,
    needs: ["dma-unbidden"],
    run: async (scene) => {
      using _own = await mapOwn(scene, AT);
      return await reading(scene, AT, OWN);
    },
  },
  {
    group: GROUP,
    what: "switch bus mastering on before anything is mapped",
    outcome: "on, and the device's access faults",
    needs: READS,
    run: async (scene) => {
      await masterOn(scene);
      assert.equal(await mastering(scene), true);
      return `on, and ${await reading(scene, AT, OWN)}`;
    },
  },
  {
    group: GROUP,
    what: "switch bus mastering on with memory that the device cannot reach (no descriptor)",
    outcome: "bus mastering stays off",
    run: async (scene) => {
      assert.equal(await scene.client.errno(MAP, map(0x1000, 0x4000)), 0);
      await masterOn(scene);
      assert.ok((await scene.hits("bus-master")) > 0);
      return (await mastering(scene)) ? "bus mastering is on" : "bus mastering stays off";
    },
  },
  {
    group: GROUP,
    what: "map memory that the device cannot reach while bus mastering is on",
    outcome: "bus mastering goes off",
    run: async (scene) => {
      await masterOn(scene);
      assert.equal(await mastering(scene), true);
      assert.equal(await scene.client.errno(MAP, map(0x1000, 0x4000)), 0);
      return (await mastering(scene)) ? "bus mastering stays on" : "bus mastering goes off";
    },
  },
];
