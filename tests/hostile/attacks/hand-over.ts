// Attacks on the way from one user to the next, and by the messages themselves.
import assert from "node:assert/strict";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { BARE_VERSION } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { Command, HeaderFlag, Region } from "../../../packages/ring3/src/vfio-user/messages.ts";
import type { Attack } from "./attack.ts";
import { mapping, mastering, masterOn } from "./dma.ts";
import { descriptorsReturn } from "./owner.ts";
import {
  access,
  bytesOf,
  configRead,
  configWrite,
  event,
  file,
  irqs,
  map,
  nameOf,
  peek,
  poke,
  SIGNALS,
} from "./wire.ts";

const COMMAND = Header.COMMAND.offset;
const INTERRUPT_LINE = Header.INTERRUPT_LINE.offset;
const HAND_OVER = "Hand-over";
const PROTOCOL = "Protocol";
const ALL_ONES = 0xffff_ffff;

export const handOverAttacks: readonly Attack[] = [
  {
    group: HAND_OVER,
    what: "open a function that somebody else has",
    outcome: "EBUSY",
    needs: ["same-user"],
    run: async (scene) => {
      const { neighbour } = scene;
      using second = scene.connect(neighbour.path);
      return nameOf(await second.errno(Command.VERSION, BARE_VERSION));
    },
  },
  {
    group: HAND_OVER,
    what: "leave something in the device for the next user, or look for what the last one left",
    outcome: "the next finds a function as after power-on",
    run: async (scene) => {
      const { mark } = scene.registers;
      if (mark !== undefined) {
        await poke(scene.client, mark.offset, mark.value);
        assert.equal(await peek(scene.client, mark.offset), mark.value);
      }
      await configWrite(scene.client, INTERRUPT_LINE, 1, 0x77);
      await masterOn(scene);
      using next = await scene.next();
      if (mark !== undefined) assert.notEqual(await peek(next, mark.offset), mark.value);
      assert.notEqual((await configRead(next, INTERRUPT_LINE)) & 0xff, 0x77);
      assert.equal((await configRead(next, COMMAND)) & 4, 0);
      return "the next finds a function as after power-on";
    },
  },
  {
    group: HAND_OVER,
    what: "leave with DMA set up, so that the device reaches the memory afterwards",
    outcome: "nothing is mapped, bus mastering is off, nothing is locked",
    run: async (scene) => {
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      await masterOn(scene);
      using _next = await scene.next();
      const { maps, lockedBytes } = await scene.view();
      assert.deepEqual([maps, lockedBytes, await mastering(scene)], [0, 0, false]);
      return "nothing is mapped, bus mastering is off, nothing is locked";
    },
  },
  {
    group: HAND_OVER,
    what: "hang up in the middle of everything, ten times, and come back at once",
    outcome: "each finds a function as after power-on",
    run: async (scene) => {
      const { mark } = scene.registers;
      using stack = new DisposableStack();
      let { client } = scene;
      for (let round = 0; round < 10; round++) {
        using memory = file();
        client.send(Command.DMA_MAP, map(0x1000, 0x4000), { fds: [memory] });
        const command = access(Region.CONFIG, COMMAND, 2, bytesOf(6, 2));
        client.send(Command.REGION_WRITE, command);
        if (mark !== undefined) {
          client.send(Command.REGION_WRITE, access(0, mark.offset, 4, bytesOf(mark.value, 4)));
        }
        client.raw(Uint8Array.of(1, 0, Command.DEVICE_RESET, 0));
        client = stack.use(await scene.next(client));
        if (mark !== undefined) assert.notEqual(await peek(client, mark.offset), mark.value);
        assert.equal((await configRead(client, COMMAND)) & 4, 0);
        const { maps, lockedBytes } = await scene.view();
        assert.deepEqual([maps, lockedBytes, await mastering(scene)], [0, 0, false]);
      }
      return "each finds a function as after power-on";
    },
  },
  {
    group: HAND_OVER,
    what: "use the function after the machine took it away",
    outcome: "reads give ones, config writes are dropped; maps and signals: ENODEV, ENODEV",
    needs: ["same-process"],
    run: async (scene) => {
      const { client } = scene;
      await scene.takeAway();
      assert.equal(await peek(client, 0), ALL_ONES);
      using memory = file();
      using signal = event();
      const index = scene.registers.interrupts;
      const refused = [
        await client.errno(Command.DMA_MAP, map(0x1000, 0x4000), { fds: [memory] }),
        await client.errno(Command.DEVICE_SET_IRQS, irqs(index, 0, 1, SIGNALS), { fds: [signal.fd] }),
      ];
      await masterOn(scene);
      assert.deepEqual([(await scene.view()).maps, await mastering(scene)], [0, false]);
      return `reads give ones, config writes are dropped; maps and signals: ${refused.map(nameOf).join(", ")}`;
    },
  },
  {
    group: HAND_OVER,
    what: "read the function's state out by live migration, or put another state in",
    outcome: "EINVAL",
    run: async ({ client }) => {
      // Set the migration state to stop-and-copy.
      const payload = Uint8Array.of(...bytesOf(16, 4), ...bytesOf(0x2_0002, 4), ...bytesOf(3, 4), ...bytesOf(0, 4));
      return nameOf(await client.errno(Command.DEVICE_FEATURE, payload));
    },
  },
];

export const protocolAttacks: readonly Attack[] = [
  {
    group: PROTOCOL,
    what: "flood the server with descriptors that no command takes",
    outcome: "they are closed",
    run: async (scene) => {
      const { client } = scene;
      using signal = event();
      const fds = Array.from({ length: 16 }, () => signal.fd);
      const flood = (): Promise<number> => client.errno(Command.REGION_READ, access(Region.CONFIG, 0, 4), { fds });
      await flood();
      const before = (await scene.view()).descriptors;
      for (let at = 0; at < 100; at++) await flood();
      await descriptorsReturn(scene, before);
      return "they are closed";
    },
  },
  {
    group: PROTOCOL,
    what: "send half a message and wait, so that others wait too",
    outcome: "the others are served",
    run: async ({ client, neighbour }) => {
      client.raw(Uint8Array.of(1, 0, 4, 0, 0xff));
      await neighbour.check();
      return "the others are served";
    },
  },
  {
    group: PROTOCOL,
    what: "claim a message of 4 GiB",
    outcome: "the server hangs up",
    run: async ({ client }) => {
      client.send(Command.REGION_WRITE, new Uint8Array(0), { size: ALL_ONES });
      await client.hangUp();
      return "the server hangs up";
    },
  },
  {
    group: PROTOCOL,
    what: "send commands before the greeting",
    outcome: "EINVAL, and the server hangs up",
    run: async (scene) => {
      const { client } = scene;
      client[Symbol.dispose]();
      using stranger = scene.connect();
      const errno = await stranger.errno(Command.DEVICE_RESET);
      await stranger.hangUp();
      return `${nameOf(errno)}, and the server hangs up`;
    },
  },
  {
    group: PROTOCOL,
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
    group: PROTOCOL,
    what: "reset the function a hundred times in a row",
    outcome: "each is done, one after the other",
    needs: ["quick-reset", "mark"],
    run: async ({ client, registers }) => {
      const { offset, value } = registers.mark ?? assert.fail();
      for (let at = 0; at < 100; at++) {
        await poke(client, offset, value);
        assert.equal(await client.errno(Command.DEVICE_RESET), 0);
        assert.notEqual(await peek(client, offset), value);
      }
      return "each is done, one after the other";
    },
  },
];
