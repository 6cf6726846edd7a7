// Attacks that there are only where a service runs: on its other sockets, on its queue, with what it lends.
import assert from "node:assert/strict";
import { isRing3Error } from "../../../packages/ring3/src/index.ts";
import { type FileDescriptor, UnixSocket } from "../../../packages/ring3/src/linux/index.ts";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { ServiceUser } from "../../../packages/ring3/src/ring3d-user.ts";
import { BARE_VERSION, FakeClient, turn } from "../../../packages/ring3/src/vfio-user/fake-client.ts";
import { Command, Region } from "../../../packages/ring3/src/vfio-user/messages.ts";
import { descriptorsOf, openVfio } from "../../../packages/ring3/src/vfio/index.ts";
import type { Attack, Scene, ServiceSockets, Trait } from "./attack.ts";
import { mapping, mastering, masterOn } from "./dma.ts";
import { descriptorsReturn, seen } from "./owner.ts";
import { access, configRead, event, map, nameOf, PATIENCE_MS, peek, poke } from "./wire.ts";

const GROUP = "Service";
const HERE: readonly Trait[] = ["service"];
const ECONNRESET = -104;
const EPIPE = -32;
/** More than a request may have. */
const LONG_LINE = 100_000;

function sockets({ service }: Scene): ServiceSockets {
  return service ?? assert.fail("no service here");
}

/** `done`, or the code that `attempt` fails with; of a system call its errno. */
async function refusal(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return "done";
  } catch (error) {
    if (!isRing3Error(error)) throw error;
    return error.code === "SYSTEM_CALL" ? (error.errno ?? error.code) : error.code;
  }
}

/** What comes of a hello at a function's socket; an errno of `connect` where the socket itself is closed. */
async function hello(scene: Scene, path: string): Promise<string> {
  let answer = "";
  const refused = await refusal(async () => {
    using client = scene.connect(path);
    answer = nameOf(await client.errno(Command.VERSION, BARE_VERSION));
  });
  return answer === "" ? refused : answer;
}

/** Sends a text with descriptors to a socket of lines, and gives what it says until it has said `last`, or hangs up. */
async function say(path: string, text: string, fds: readonly FileDescriptor[], last = "\n"): Promise<string> {
  using socket = UnixSocket.connect(path);
  const decoder = new TextDecoder();
  const into = new Uint8Array(65_536);
  let left: Uint8Array = new TextEncoder().encode(text);
  let heard = "";
  for (const until = performance.now() + PATIENCE_MS; ; await turn()) {
    const sent = left.length === 0 ? 0 : socket.send([left.subarray(0, 4096)], fds);
    if (sent > 0) left = left.subarray(sent);
    const received = socket.receive(into);
    for (const fd of received.fds) fd.close();
    if (received.size > 0) heard += decoder.decode(into.subarray(0, received.size), { stream: true });
    const over = received.size === 0 || received.size === ECONNRESET || sent === EPIPE;
    if (heard.includes(last) || over) return heard;
    assert.ok(performance.now() < until, `nothing comes from ${path}`);
  }
}

/** The attacker lets go of its function, so that it can be lent to it. */
async function letGo(scene: Scene): Promise<void> {
  scene.client[Symbol.dispose]();
  await seen(scene, ({ state }) => state === "ready");
}

async function isAsNew(scene: Scene, client: FakeClient): Promise<void> {
  const { mark } = scene.registers;
  if (mark !== undefined) assert.notEqual(await peek(client, mark.offset), mark.value);
  assert.equal((await configRead(client, Header.COMMAND.offset)) & 4, 0);
  const { maps, lockedBytes } = await scene.view();
  assert.deepEqual([maps, lockedBytes, await mastering(scene)], [0, 0, false]);
}

export const serviceAttacks: readonly Attack[] = [
  {
    group: GROUP,
    what: "open the socket of a function that is for another user",
    outcome: "EACCES",
    needs: HERE,
    run: (scene) => hello(scene, sockets(scene).foreign.path),
  },
  {
    group: GROUP,
    what: "talk to the control socket, or read the metrics",
    outcome: "EACCES, EACCES",
    needs: [...HERE, "unprivileged"],
    run: async (scene) => {
      const { control, metrics } = sockets(scene);
      const outcomes: string[] = [];
      for (const path of [control, metrics]) {
        outcomes.push(await refusal(() => say(path, '{"request":"kick","function":"disk"}\n', [])));
      }
      return outcomes.join(", ");
    },
  },
  {
    group: GROUP,
    what: "ask for notices of another user's function, and for its descriptors",
    outcome: "FUNCTION_UNKNOWN, FUNCTION_UNKNOWN",
    needs: HERE,
    run: async (scene) => {
      const { users, foreign } = sockets(scene);
      using user = new ServiceUser(users);
      assert.ok(!(await user.functions()).some(({ name }) => name === foreign.name));
      const register = await refusal(() => user.register(foreign.name, ["remove"]));
      return `${register}, ${await refusal(() => user.open(foreign.name))}`;
    },
  },
  {
    group: GROUP,
    what: "answer notices that went to others",
    outcome: "NOTICE_UNKNOWN",
    needs: HERE,
    run: async (scene) => {
      using user = new ServiceUser(sockets(scene).users);
      const outcomes = new Set<string>();
      for (let notice = 0; notice < 100; notice++) {
        outcomes.add(await refusal(() => user.reply(notice, "consent")));
        outcomes.add(await refusal(() => user.reply(notice, "disconnect")));
      }
      return [...outcomes].join(", ");
    },
  },
  {
    group: GROUP,
    what: "ask for the kernel's descriptors of the function without the right",
    outcome: "PERMISSION_DENIED",
    needs: [...HERE, "not-lent"],
    run: async (scene) => {
      await letGo(scene);
      using user = new ServiceUser(sockets(scene).users);
      return await refusal(() => user.open(scene.name));
    },
  },
  {
    group: GROUP,
    what: "ask for the kernel's descriptors while the function is used",
    outcome: "FUNCTION_BUSY",
    needs: [...HERE, "lent"],
    run: async (scene) => {
      using user = new ServiceUser(sockets(scene).users);
      return await refusal(() => user.open(scene.name));
    },
  },
  {
    group: GROUP,
    what: "be lent the kernel's descriptors, and hang up before they come, five times",
    outcome: "the service has the function back, and nothing stays open",
    needs: [...HERE, "lent"],
    run: async (scene) => {
      await letGo(scene);
      const before = (await scene.view()).descriptors;
      for (let round = 0; round < 5; round++) {
        using socket = UnixSocket.connect(sockets(scene).users);
        assert.ok(
          socket.send([new TextEncoder().encode(`{"id":1,"request":"open","function":"${scene.name}"}\n`)]) > 0,
        );
      }
      using client = await seen(scene, ({ state }) => state === "ready").then(() => scene.next());
      await isAsNew(scene, client);
      client[Symbol.dispose]();
      await descriptorsReturn(scene, before);
      return "the service has the function back, and nothing stays open";
    },
  },
  {
    group: GROUP,
    what: "keep what was lent, and use it, after the administrator has taken it",
    outcome: "nobody gets the function, why is told, and the next after it finds a function as after power-on",
    needs: [...HERE, "lent"],
    run: async (scene) => {
      await letGo(scene);
      using user = new ServiceUser(sockets(scene).users);
      const { address, backend, descriptors } = await user.open(scene.name);
      {
        await using fn = await openVfio(address, { descriptors: descriptorsOf(backend, descriptors) });
        await scene.takeAway();
        const { reason } = await seen(scene, ({ state }) => state === "failed");
        // By which process only a service can tell that may look into those of other users.
        assert.match(reason ?? "", /held by/);
        assert.ok(user.ended.aborted);
        // It is the attacker's own still, and nobody else's: it reaches its own memory alone.
        fn.busMaster = true;
        assert.notEqual(await hello(scene, scene.path), "done");
        await scene.neighbour.check();
      }
      await seen(scene, ({ state }) => state === "ready");
      using client = await scene.next();
      await isAsNew(scene, client);
      return "nobody gets the function, why is told, and the next after it finds a function as after power-on";
    },
  },
  {
    group: GROUP,
    what: "use the function after the administrator has taken it",
    outcome: "the connection has ended, and the next finds a function as after power-on",
    needs: HERE,
    run: async (scene) => {
      const { client, registers } = scene;
      assert.equal(await mapping(scene, map(0x1000, 0x4000)), "done");
      if (registers.mark !== undefined) await poke(client, registers.mark.offset, registers.mark.value);
      await masterOn(scene);
      await scene.takeAway();
      await client.hangUp();
      using next = await scene.next();
      await isAsNew(scene, next);
      return "the connection has ended, and the next finds a function as after power-on";
    },
  },
  {
    group: GROUP,
    what: "take every place in the queue, and stay",
    outcome: "EBUSY for one more; the neighbour is served, and whoever waited has the function at last",
    needs: HERE,
    run: async (scene) => {
      const { queue } = sockets(scene);
      using stack = new DisposableStack();
      const waiting = Array.from({ length: queue }, () => stack.use(scene.connect()));
      for (const client of waiting) client.send(Command.VERSION, BARE_VERSION);
      // Who waits has no answer: what tells that they do is that there is no room for one more.
      let refused = "";
      for (const until = performance.now() + PATIENCE_MS; refused !== "EBUSY" && performance.now() < until; ) {
        refused = await hello(scene, scene.path);
      }
      await scene.neighbour.check();
      scene.client[Symbol.dispose]();
      for (const client of waiting) {
        const reply = await client.next();
        assert.equal(reply.errno, 0);
        await isAsNew(scene, client);
        client[Symbol.dispose]();
      }
      return `${refused} for one more; the neighbour is served, and whoever waited has the function at last`;
    },
  },
  {
    group: GROUP,
    what: "open a thousand connections to the function, and say nothing",
    outcome: "the neighbour is served, the function works, and nothing stays open",
    needs: HERE,
    run: async (scene) => {
      const before = (await scene.view()).descriptors;
      for (let round = 0; round < 10; round++) {
        using stack = new DisposableStack();
        for (let at = 0; at < 100; at++) stack.use(scene.connect());
        await scene.neighbour.check();
      }
      const reply = await scene.client.request(Command.REGION_READ, access(Region.CONFIG, 0, 4));
      assert.equal(reply.errno, 0);
      await descriptorsReturn(scene, before);
      return "the neighbour is served, the function works, and nothing stays open";
    },
  },
  {
    group: GROUP,
    what: "open a thousand connections to the users' socket",
    outcome: "TOO_MANY_CONNECTIONS, and nothing stays open",
    needs: HERE,
    run: async (scene) => {
      const { users } = sockets(scene);
      const before = (await scene.view()).descriptors;
      let last = "";
      for (let round = 0; round < 10; round++) {
        using stack = new DisposableStack();
        for (let at = 0; at < 99; at++) stack.use(UnixSocket.connect(users));
        const answer = await say(users, "", []);
        last = (JSON.parse(answer) as { error: { code: string } }).error.code;
      }
      await descriptorsReturn(scene, before);
      return `${last}, and nothing stays open`;
    },
  },
  {
    group: GROUP,
    what: "send the users' socket a line that has no end",
    outcome: "LINE_TOO_LONG, and it hangs up",
    needs: HERE,
    run: async (scene) => {
      const heard = await say(sockets(scene).users, "x".repeat(LONG_LINE), [], "\0");
      return `${(JSON.parse(heard) as { error: { code: string } }).error.code}, and it hangs up`;
    },
  },
  {
    group: GROUP,
    what: "flood every socket with descriptors (SCM_RIGHTS)",
    outcome: "they are closed",
    needs: HERE,
    run: async (scene) => {
      const { users, control, metrics } = sockets(scene);
      using signal = event();
      const fds = Array.from({ length: 16 }, () => signal.fd);
      const open: string[] = [users];
      for (const path of [control, metrics]) if ((await refusal(() => say(path, "\n", []))) === "done") open.push(path);
      const before = (await scene.view()).descriptors;
      for (let round = 0; round < 20; round++) {
        for (const path of open) await say(path, '{"id":1,"request":"nothing"}\n', fds);
        const payload = access(Region.CONFIG, 0, 4);
        await scene.client.errno(Command.REGION_READ, payload, { fds });
        using stranger = scene.connect();
        stranger.send(Command.VERSION, BARE_VERSION, { fds });
      }
      await descriptorsReturn(scene, before);
      return "they are closed";
    },
  },
];
