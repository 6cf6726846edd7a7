// What an unprivileged user may try against a mediated function, each with its outcome: the table of docs/security.md.
import assert from "node:assert/strict";
import { ftruncateSync, openSync, closeSync } from "node:fs";
import { FileDescriptor } from "../../packages/ring3/src/linux/index.ts";
import { Header } from "../../packages/ring3/src/pci/header.ts";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";
import { FakeClient } from "../../packages/ring3/src/vfio-user/fake-client.ts";
import { Command, HeaderFlag, Irq, IrqSetFlag, Region } from "../../packages/ring3/src/vfio-user/messages.ts";
import {
  access,
  bytesOf,
  configRead,
  configWrite,
  Engine,
  event,
  file,
  irqs,
  Kept,
  map,
  nameOf,
  peek,
  poke,
  type Scene,
  SIGNALS,
  unmap,
  VICTIM_IOVA,
} from "./mediation-scene.ts";

export interface Attack {
  readonly group: "DMA" | "Config space" | "BARs" | "Interrupts" | "Hand-over" | "Protocol";
  readonly what: string;
  /** What comes of it, as `run` tells it. */
  readonly outcome: string;
  run(scene: Scene): Promise<string>;
}

const COMMAND = Header.COMMAND.offset;
const BUS_MASTER = 6;
const MAP = Command.DMA_MAP;

async function mapping(scene: Scene, payload: Uint8Array, size?: number): Promise<string> {
  using memory = file(size);
  return nameOf(await scene.client.errno(MAP, payload, { fds: [memory] }));
}

/** Has the attacker's device read, and tells what it got. */
async function dmaRead(scene: Scene, address: number): Promise<string> {
  const { client, own } = scene;
  await poke(client, Engine.ADDRESS, address >>> 0);
  await poke(client, Engine.ADDRESS + 4, Math.floor(address / 2 ** 32));
  await poke(client, Engine.DATA, 0x1111);
  const faults = own.device.memory.faults;
  await poke(client, Engine.READ, 4);
  const value = await peek(client, Engine.DATA);
  return own.device.memory.faults > faults ? "the device's access faults" : `the device read 0x${value.toString(16)}`;
}

async function dmaWrite(scene: Scene, address: number): Promise<string> {
  const { client, own } = scene;
  await poke(client, Engine.ADDRESS, address >>> 0);
  await poke(client, Engine.ADDRESS + 4, Math.floor(address / 2 ** 32));
  const faults = own.device.memory.faults;
  await poke(client, Engine.WRITE, 0xbad);
  return own.device.memory.faults > faults ? "the device's access faults" : "the device wrote";
}

async function masterOn(scene: Scene): Promise<void> {
  await configWrite(scene.client, COMMAND, 2, BUS_MASTER);
}

const real = (scene: Scene): number => scene.own.real.config.readRaw(Header.COMMAND);

export const attacks: readonly Attack[] = [
  // ---- DMA
  {
    group: "DMA",
    what: "have the device read another user's memory, at that user's addresses",
    outcome: "the device's access faults",
    run: async (scene) => {
      await masterOn(scene);
      return dmaRead(scene, VICTIM_IOVA);
    },
  },
  {
    group: "DMA",
    what: "have the device write another user's memory, at that user's addresses",
    outcome: "the device's access faults",
    run: async (scene) => {
      await masterOn(scene);
      return dmaWrite(scene, VICTIM_IOVA);
    },
  },
  {
    group: "DMA",
    what: "map the same addresses as another user, and read there",
    outcome: "the device read 0x0: the attacker's own page",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(VICTIM_IOVA, 0x4000)), "done");
      await masterOn(scene);
      return `${await dmaRead(scene, VICTIM_IOVA)}: the attacker's own page`;
    },
  },
  {
    group: "DMA",
    what: "map over a range that is mapped already",
    outcome: "EEXIST",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x2000)), "done");
      return mapping(scene, map(0x2000, 0x2000));
    },
  },
  {
    group: "DMA",
    what: "map a range that wraps around at 2^64",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2n ** 64n - 0x1000n, 0x2000)),
  },
  {
    group: "DMA",
    what: "map a range beyond 2^53, where numbers would round",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2n ** 53n - 0x1000n, 0x2000)),
  },
  {
    group: "DMA",
    what: "map over the window of interrupt messages (0xfee00000)",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0xfee0_0000, 0x1000)),
  },
  {
    group: "DMA",
    what: "map beyond the address bits of the IOMMU",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(2 ** 50, 0x1000)),
  },
  { group: "DMA", what: "map no bytes", outcome: "EINVAL", run: (scene) => mapping(scene, map(0x1000, 0)) },
  {
    group: "DMA",
    what: "map half a page, so that the rest of it comes along",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x800)),
  },
  {
    group: "DMA",
    what: "map at an address in the middle of a page",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1800, 0x1000)),
  },
  {
    group: "DMA",
    what: "map more bytes than the file has",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x8000), 0x4000),
  },
  {
    group: "DMA",
    what: "map at a file offset whose end wraps",
    outcome: "EINVAL",
    run: (scene) => mapping(scene, map(0x1000, 0x2000, 2n ** 64n - 0x1000n)),
  },
  {
    group: "DMA",
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
    group: "DMA",
    what: "have the device write memory that was mapped for reading",
    outcome: "the device's access faults",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000, 0n, 1)), "done");
      await masterOn(scene);
      return dmaWrite(scene, 0x1000);
    },
  },
  {
    group: "DMA",
    what: "map a read-only descriptor for the device to write",
    outcome: "EACCES",
    run: async (scene) => {
      using memory = file();
      using readOnly = new FileDescriptor(openSync(`/proc/self/fd/${memory.number}`, "r"));
      return nameOf(await scene.client.errno(MAP, map(0x1000, 0x4000), { fds: [readOnly] }));
    },
  },
  {
    group: "DMA",
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
    group: "DMA",
    what: "lock more memory than is allowed, in one map",
    outcome: "ENOMEM",
    run: (scene) => mapping(scene, map(0x1000_0000, 0x20_0000), 0x20_0000),
  },
  {
    group: "DMA",
    what: "lock more memory than is allowed, by one file mapped again and again",
    outcome: "ENOMEM",
    run: async (scene) => {
      using memory = file(0x4_0000);
      for (let at = 0; ; at++) {
        const errno = await scene.client.errno(MAP, map(0x1000_0000 + at * 0x4_0000, 0x4_0000), { fds: [memory] });
        if (errno !== 0) return nameOf(errno);
        assert.ok(scene.own.mediated.lockedBytes <= 0x10_0000);
      }
    },
  },
  {
    group: "DMA",
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
    group: "DMA",
    what: "unmap a part of a map, to confuse what is left",
    outcome: "EINVAL",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      return nameOf(await scene.client.errno(Command.DMA_UNMAP, unmap(0x2000, 0x1000)));
    },
  },
  {
    group: "DMA",
    what: "have the device use memory after it was unmapped",
    outcome: "the device's access faults",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      await masterOn(scene);
      assert.equal(await scene.client.errno(Command.DMA_UNMAP, unmap(0x1000, 0x4000)), 0);
      return dmaRead(scene, 0x1000);
    },
  },
  {
    group: "DMA",
    what: "have the device access memory with bus mastering off",
    outcome: "the device's access faults",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      return dmaRead(scene, 0x1000);
    },
  },
  {
    group: "DMA",
    what: "switch bus mastering on before anything is mapped",
    outcome: "on, and the device's access faults",
    run: async (scene) => {
      await masterOn(scene);
      return `on, and ${await dmaRead(scene, 0x1000)}`;
    },
  },
  {
    group: "DMA",
    what: "switch bus mastering on with memory that the device cannot reach (no descriptor)",
    outcome: "bus mastering stays off",
    run: async (scene) => {
      assert.equal(await scene.client.errno(MAP, map(0x1000, 0x4000)), 0);
      await masterOn(scene);
      assert.ok(scene.hits.includes("bus-master"));
      return (real(scene) & 4) === 0 ? "bus mastering stays off" : "bus mastering is on";
    },
  },
  {
    group: "DMA",
    what: "map memory that the device cannot reach while bus mastering is on",
    outcome: "bus mastering goes off",
    run: async (scene) => {
      await masterOn(scene);
      assert.equal(await scene.client.errno(MAP, map(0x1000, 0x4000)), 0);
      return (real(scene) & 4) === 0 ? "bus mastering goes off" : "bus mastering stays on";
    },
  },
  // ---- Config space
  {
    group: "Config space",
    what: "write ones, zeros and patterns to every offset, by every width",
    outcome: "the real BARs, ids and capabilities are as before",
    run: async (scene) => {
      const { client, own } = scene;
      const fixed = (): string =>
        Buffer.from(
          [0, 8, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x2c, 0x34].flatMap((at) =>
            bytesOf(own.real.config.read32(at), 4),
          ),
        ).toString("hex");
      const before = fixed();
      for (const value of [0xffff_ffff, 0, 0xa5a5_a5a5]) {
        for (const width of [1, 2, 4]) {
          for (let at = 0; at < 0x200; at += width) await configWrite(client, at, width, value);
        }
      }
      return fixed() === before ? "the real BARs, ids and capabilities are as before" : "something changed";
    },
  },
  {
    group: "Config space",
    what: "move a BAR over another device",
    outcome: "only the user's copy moves",
    run: async (scene) => {
      await configWrite(scene.client, 0x10, 4, 0xfee0_0000);
      assert.equal(((await configRead(scene.client, 0x10)) & ~0xf) >>> 0, 0xfee0_0000);
      return scene.own.real.config.read32(0x10) === 0 ? "only the user's copy moves" : "the real BAR moves";
    },
  },
  {
    group: "Config space",
    what: "enlarge a BAR by its resizable-BAR capability",
    outcome: "the capability is not there",
    run: async (scene) => {
      const before = scene.own.real.bar(2).size;
      for (let at = 0x100; at < 0x1000; at += 4) await configWrite(scene.client, at, 4, 0x1500);
      assert.equal(scene.own.real.bar(2).size, before);
      const ids: number[] = [];
      for (let at = 0x100; at !== 0; ) {
        const head = await configRead(scene.client, at);
        ids.push(head & 0xffff);
        at = head >>> 20;
      }
      return ids.includes(0x15) ? "the capability is there" : "the capability is not there";
    },
  },
  {
    group: "Config space",
    what: "change registers of the vendor's own in config space",
    outcome: "the write is dropped",
    run: async (scene) => {
      const at = scene.own.real.config.find(0x09)?.offset ?? 0;
      const before = scene.own.real.config.read32(at);
      await configWrite(scene.client, at, 4, 0xffff_ffff);
      assert.ok(scene.hits.includes("config-write"));
      return scene.own.real.config.read32(at) === before ? "the write is dropped" : "it is written";
    },
  },
  {
    group: "Config space",
    what: "switch MSI-X on by its register, without signals",
    outcome: "the write is dropped",
    run: async (scene) => {
      const at = scene.own.real.config.find(0x11)?.offset ?? 0;
      await configWrite(scene.client, at + 2, 2, 0x8000);
      return (scene.own.real.config.read16(at + 2) & 0x8000) === 0 ? "the write is dropped" : "it is on";
    },
  },
  {
    group: "Config space",
    what: "point MSI at an address of the user's choice",
    outcome: "only the user's copy changes",
    run: async (scene) => {
      const at = scene.own.real.config.find(0x05)?.offset ?? 0;
      await configWrite(scene.client, at + 4, 4, 0xdead_bee0);
      await configWrite(scene.client, at + 2, 2, 0x0001);
      const control = scene.own.real.config.read16(at + 2) & 1;
      const address = scene.own.real.config.read32(at + 4);
      return control === 0 && address === 0 ? "only the user's copy changes" : "the device would write there";
    },
  },
  {
    group: "Config space",
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
    group: "Config space",
    what: "reset the function by FLR while its DMA engine is set up",
    outcome: "the function is reset, its BARs answer, and the neighbour is untouched",
    run: async (scene) => {
      const { client, own, other } = scene;
      const at = own.real.config.find(0x10)?.offset ?? 0;
      await poke(client, Engine.SECRET, 7);
      const before = [own.device.resets, other.device.resets];
      await configWrite(client, at + 8, 2, 0x8000);
      await configWrite(client, COMMAND, 2, 2);
      assert.deepEqual([own.device.resets - (before[0] ?? 0), other.device.resets - (before[1] ?? 0)], [1, 0]);
      assert.equal(await peek(client, Engine.SECRET), 0);
      return "the function is reset, its BARs answer, and the neighbour is untouched";
    },
  },
  {
    group: "Config space",
    what: "send the function to sleep and access it",
    outcome: "reads give ones, writes are dropped, and D0 brings it back",
    run: async ({ client, own }) => {
      const at = own.real.config.find(0x01)?.offset ?? 0;
      await configWrite(client, at + 4, 2, 3);
      assert.equal(await peek(client, Engine.SECRET), 0xffff_ffff);
      await poke(client, Engine.SECRET, 5);
      await configWrite(client, at + 4, 2, 0);
      await configWrite(client, COMMAND, 2, 2);
      assert.equal(await peek(client, Engine.SECRET), 0);
      return "reads give ones, writes are dropped, and D0 brings it back";
    },
  },
  // ---- BARs
  {
    group: "BARs",
    what: "read a range that a rule hides",
    outcome: "ones",
    run: async ({ client, own }) => {
      own.device.words[Kept.HIDDEN / 4] = 0x1234;
      return (await peek(client, Kept.HIDDEN)) === 0xffff_ffff ? "ones" : "the register";
    },
  },
  {
    group: "BARs",
    what: "write a range that a rule makes read-only",
    outcome: "the write is dropped",
    run: async ({ client, own, hits }) => {
      await poke(client, Kept.READ_ONLY, 7);
      assert.ok(hits.includes("bar-read-only"));
      return own.device.words[Kept.READ_ONLY / 4] === 0 ? "the write is dropped" : "it is written";
    },
  },
  {
    group: "BARs",
    what: "write a hidden register by an access that begins before the range",
    outcome: "the write is dropped",
    run: async ({ client, own }) => {
      await client.errno(Command.REGION_WRITE, access(0, Kept.HIDDEN - 4, 8, [1, 1, 1, 1, 2, 2, 2, 2]));
      return own.device.words[Kept.HIDDEN / 4] === 0 ? "the write is dropped" : "it is written";
    },
  },
  {
    group: "BARs",
    what: "flood a range that a rule limits",
    outcome: "10 of 100 writes pass",
    run: async ({ client, hits }) => {
      for (let at = 0; at < 100; at++) await poke(client, Kept.LIMITED, at);
      return `${100 - hits.filter((hit) => hit === "bar-rate").length} of 100 writes pass`;
    },
  },
  {
    group: "BARs",
    what: "read and write beyond the end of a BAR",
    outcome: "EINVAL",
    run: async ({ client }) => {
      const outcomes = new Set<string>();
      for (const at of [0x4000n, 0x3ffen, 2n ** 64n - 2n]) {
        outcomes.add(nameOf(await client.errno(Command.REGION_READ, access(0, at, 4))));
        outcomes.add(nameOf(await client.errno(Command.REGION_WRITE, access(0, at, 4, [1, 2, 3, 4]))));
      }
      return [...outcomes].join(", ");
    },
  },
  {
    group: "BARs",
    what: "get a descriptor of the device's pages",
    outcome: "none is offered: accesses go by message",
    run: async ({ client }) => {
      const info = Uint8Array.of(...bytesOf(256, 4), ...bytesOf(0, 4), ...bytesOf(2, 4), ...new Uint8Array(20));
      const { payload, fds } = await client.request(Command.DEVICE_GET_REGION_INFO, info);
      assert.equal(fds.length, 0);
      const flags = payload[4] ?? 0;
      return (flags & 4) === 0 ? "none is offered: accesses go by message" : "one is offered";
    },
  },
  {
    group: "BARs",
    what: "write the MSI-X table: an address and data of the user's choice",
    outcome: "only the user's copy changes",
    run: async ({ client, own }) => {
      for (const [at, value] of [
        [0, 0xfee0_0000],
        [4, 0],
        [8, 0x41],
        [12, 0],
      ] as const)
        await poke(client, at, value, 4);
      const kept = own.real.bar(4).read32(0) === 0 && own.real.bar(4).read32(8) === 0;
      return kept ? "only the user's copy changes" : "the device's table changes";
    },
  },
  {
    group: "BARs",
    what: "write the pending bits of MSI-X",
    outcome: "the write is dropped",
    run: async ({ client }) => {
      await poke(client, 0x1000, 0xff, 4);
      return (await peek(client, 0x1000, 4)) === 0 ? "the write is dropped" : "it is written";
    },
  },
  // ---- Interrupts
  {
    group: "Interrupts",
    what: "connect more vectors than there are",
    outcome: "EINVAL",
    run: async ({ client }) => {
      using signal = event();
      const fds = Array.from({ length: 9 }, () => signal.fd);
      return nameOf(await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 9, SIGNALS), { fds }));
    },
  },
  {
    group: "Interrupts",
    what: "connect vectors whose numbers wrap",
    outcome: "EINVAL",
    run: async ({ client }) => {
      using signal = event();
      return nameOf(
        await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0xffff_ffff, 2, SIGNALS), {
          fds: [signal.fd, signal.fd],
        }),
      );
    },
  },
  {
    group: "Interrupts",
    what: "connect something that is no eventfd, and would block whoever signals it",
    outcome: "EINVAL",
    run: async ({ client }) => {
      using memory = file();
      return nameOf(await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [memory] }));
    },
  },
  {
    group: "Interrupts",
    what: "switch MSI on while MSI-X is",
    outcome: "EINVAL",
    run: async ({ client }) => {
      using signal = event();
      assert.equal(await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [signal.fd] }), 0);
      return nameOf(await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSI, 0, 1, SIGNALS), { fds: [signal.fd] }));
    },
  },
  {
    group: "Interrupts",
    what: "have the device signal vectors that are not connected",
    outcome: "nobody is signalled",
    run: async (scene) => {
      using signal = event();
      await scene.client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [signal.fd] });
      await masterOn(scene);
      for (const vector of [1, 7, 8, 0xffff_ffff]) await poke(scene.client, Engine.RAISE, vector);
      return signal.read() === 0 ? "nobody is signalled" : "a signal came";
    },
  },
  {
    group: "Interrupts",
    what: "raise interrupts of another user by software",
    outcome: "only the user's own signal is raised",
    run: async (scene) => {
      using own = event();
      using theirs = event();
      const flags = IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER;
      await scene.victim.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [theirs.fd] });
      await scene.client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [own.fd] });
      assert.equal(await scene.client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, flags)), 0);
      return own.read() === 1 && theirs.read() === 0 ? "only the user's own signal is raised" : "the other's is raised";
    },
  },
  // ---- Hand-over
  {
    group: "Hand-over",
    what: "open a function that another user has",
    outcome: "EBUSY",
    run: async ({ other }) => {
      using second = FakeClient.connect(other.path);
      return nameOf(await second.errno(Command.VERSION, Uint8Array.of(0, 0, 0, 0)));
    },
  },
  {
    group: "Hand-over",
    what: "open in the mediator's own process what a user has",
    outcome: "FUNCTION_BUSY, with the user's pid",
    run: ({ other }) => {
      assert.throws(() => inProcess(other.mediated), {
        code: "FUNCTION_BUSY",
        message: new RegExp(`pid ${process.pid}`),
      });
      return Promise.resolve("FUNCTION_BUSY, with the user's pid");
    },
  },
  {
    group: "Hand-over",
    what: "leave something in the device for the next user, or look for what the last one left",
    outcome: "the next finds a function as after power-on",
    run: async (scene) => {
      await poke(scene.client, Engine.SECRET, 0x5ec2e7);
      await configWrite(scene.client, 0x3c, 1, 0x77);
      await masterOn(scene);
      using next = await scene.next();
      assert.equal(await peek(next, Engine.SECRET), 0);
      assert.deepEqual([(await configRead(next, 0x3c)) & 0xff, (await configRead(next, COMMAND)) & 4], [0, 0]);
      return "the next finds a function as after power-on";
    },
  },
  {
    group: "Hand-over",
    what: "leave with DMA set up, so that the device reaches the memory afterwards",
    outcome: "nothing is mapped, bus mastering is off, nothing is locked",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      await masterOn(scene);
      using _next = await scene.next();
      assert.deepEqual(
        [
          scene.own.mediated.memory.count,
          scene.own.device.memory.count,
          scene.own.mediated.lockedBytes,
          real(scene) & 4,
        ],
        [0, 0, 0, 0],
      );
      return "nothing is mapped, bus mastering is off, nothing is locked";
    },
  },
  {
    group: "Hand-over",
    what: "use the function after its owner took it away",
    outcome: "reads give ones, config writes are dropped; maps and signals: ENODEV, ENODEV",
    run: async ({ client, own }) => {
      own.mediated.remove("its owner wants it");
      const value = await peek(client, Engine.SECRET);
      assert.equal(value, 0xffff_ffff);
      using memory = file();
      using signal = event();
      const refused = [
        await client.errno(MAP, map(0x1000, 0x4000), { fds: [memory] }),
        await client.errno(Command.DEVICE_SET_IRQS, irqs(Irq.MSIX, 0, 1, SIGNALS), { fds: [signal.fd] }),
      ];
      await configWrite(client, COMMAND, 2, BUS_MASTER);
      assert.deepEqual([own.device.memory.count, own.real.config.readRaw(Header.COMMAND) & 4], [0, 0]);
      return `reads give ones, config writes are dropped; maps and signals: ${refused.map(nameOf).join(", ")}`;
    },
  },
  {
    group: "Hand-over",
    what: "read the function's state out by live migration, or put another state in",
    outcome: "EINVAL",
    run: async ({ client }) => {
      // Set the migration state to stop-and-copy.
      const payload = Uint8Array.of(...bytesOf(16, 4), ...bytesOf(0x2_0002, 4), ...bytesOf(3, 4), ...bytesOf(0, 4));
      return nameOf(await client.errno(Command.DEVICE_FEATURE, payload));
    },
  },
  // ---- Protocol
  {
    group: "Protocol",
    what: "flood the server with descriptors that no command takes",
    outcome: "they are closed",
    run: async ({ client }) => {
      using signal = event();
      const fds = Array.from({ length: 16 }, () => signal.fd);
      const { openDescriptors } = await import("./mediation-scene.ts");
      await client.errno(Command.REGION_READ, access(Region.CONFIG, 0, 4), { fds });
      const before = openDescriptors();
      for (let at = 0; at < 100; at++) await client.errno(Command.REGION_READ, access(Region.CONFIG, 0, 4), { fds });
      return openDescriptors() <= before ? "they are closed" : `${openDescriptors() - before} stay open`;
    },
  },
  {
    group: "Protocol",
    what: "send half a message and wait, so that others wait too",
    outcome: "the others are served",
    run: async ({ client, victim }) => {
      client.raw(Uint8Array.of(1, 0, 4, 0, 0xff));
      const reply = await victim.request(Command.REGION_READ, access(Region.CONFIG, 0, 4));
      return reply.errno === 0 ? "the others are served" : "the others wait";
    },
  },
  {
    group: "Protocol",
    what: "claim a message of 4 GiB",
    outcome: "the server hangs up",
    run: async ({ client }) => {
      client.send(Command.REGION_WRITE, new Uint8Array(0), { size: 0xffff_ffff });
      await client.hangUp();
      return "the server hangs up";
    },
  },
  {
    group: "Protocol",
    what: "send commands before the greeting",
    outcome: "EINVAL, and the server hangs up",
    run: async ({ own, client }) => {
      client[Symbol.dispose]();
      using stranger = FakeClient.connect(own.path);
      const errno = await stranger.errno(Command.DEVICE_RESET);
      await stranger.hangUp();
      return `${nameOf(errno)}, and the server hangs up`;
    },
  },
  {
    group: "Protocol",
    what: "send replies that nobody asked for",
    outcome: "they are ignored",
    run: async ({ client }) => {
      for (let at = 0; at < 50; at++)
        client.send(Command.DMA_READ, new Uint8Array(64), { flags: HeaderFlag.REPLY, id: at });
      const reply = await client.request(Command.REGION_READ, access(Region.CONFIG, 0, 4));
      return reply.errno === 0 ? "they are ignored" : "the server is confused";
    },
  },
  {
    group: "Protocol",
    what: "reset the function a hundred times in a row",
    outcome: "each is done, one after the other",
    run: async ({ client, own }) => {
      const before = own.device.resets;
      for (let at = 0; at < 100; at++) assert.equal(await client.errno(Command.DEVICE_RESET), 0);
      return own.device.resets - before >= 100 ? "each is done, one after the other" : "some were lost";
    },
  },
];
