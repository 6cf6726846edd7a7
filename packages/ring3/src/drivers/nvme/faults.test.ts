// What can go wrong with an honest controller: it stalls, dies, sleeps or goes away. Whatever happens, every promise
// settles, and no write that was acknowledged is lost.
// seconds: 2
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type FakeCommand, FakeNvme } from "../../../../../tests/fakes/fake-nvme.ts";
import { isRead, isWrite, quick, running, startFails, turns } from "../../../../../tests/fakes/nvme-scenes.ts";
import { VirtualClock } from "../../../../../tests/fakes/virtual-clock.ts";
import { AdminOpcode } from "../../specs/nvme/commands.ts";
import { Nvme } from "../../specs/nvme/registers.ts";
import { NvmeDriver } from "./index.ts";

// --- Stalls ---------------------------------------------------------------------------------------------------------

test("an overdue command is aborted and repeated", () =>
  running(async (nvme, device) => {
    let holds = 1;
    device.hooks.command = (command) => (isRead(command) && holds-- > 0 ? "hold" : undefined);
    assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
    assert.ok(device.executed.includes(`0:${AdminOpcode.ABORT}`));
    assert.equal(device.enables, 1, "without a reset");
  }));

test("a command that is always overdue ends with a time-out", () =>
  running(async (nvme, device) => {
    device.hooks.command = (command) => (isRead(command) ? "hold" : undefined);
    await assert.rejects(nvme.namespace(1).read(0, 1), { code: "NVME_TIMEOUT" });
    device.hooks.command = () => undefined;
    await nvme.namespace(1).read(0, 1);
  }));

test("a command that cannot be aborted leads to a reset and is repeated", () =>
  running(async (nvme, device) => {
    let losses = 1;
    device.hooks.command = (command) => (isRead(command) && losses-- > 0 ? "swallow" : undefined);
    const reasons: string[] = [];
    nvme.events.on("recovered", ({ reason }) => reasons.push(reason));
    const others = Array.from({ length: 20 }, (_, i) => nvme.namespace(2).write(i, new Uint8Array(4096).fill(i)));
    assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
    await Promise.all(others);
    assert.equal(device.enables, 2);
    assert.match(reasons[0] ?? "", /could not be aborted/);
  }));

test("a lost interrupt costs time, not the command", () =>
  running(
    async (nvme, device) => {
      device.fn.interrupts.raise = () => {};
      assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
      assert.equal(device.enables, 1);
    },
    { completion: "interrupt" },
  ));

test("an admin queue that says nothing during start ends the start", () =>
  startFails((device) => void (device.hooks.command = () => "swallow"), "NVME_TIMEOUT"));

test("an admin queue that dies later leads to resets, then to the end", () =>
  running(async (nvme, device) => {
    device.hooks.command = ({ queueId }) => (queueId === 0 ? "swallow" : undefined);
    await assert.rejects(nvme.smart());
    await turns(3);
    await assert.rejects(nvme.namespace(1).read(0, 1), { code: "NVME_FAILED" });
  }));

test("fatal status in mid-I/O: reset, repeated, goes on", () =>
  running(async (nvme, device) => {
    let holds = 10;
    device.hooks.command = (command) => (command.queueId > 0 && holds-- > 0 ? "hold" : undefined);
    const reads = Array.from({ length: 10 }, (_, i) => nvme.namespace(1).read(i, 1));
    await turns(3);
    device.fatal();
    assert.equal((await Promise.all(reads)).length, 10);
    assert.equal(device.enables, 2);
  }));

test("fatal status because the queue cannot be fetched", () =>
  running(async (nvme, device) => {
    device.fn.busMaster = false;
    assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
    assert.equal(device.enables, 2);
  }));

test("the controller's reset does not help, the function's does", () =>
  running(async (nvme, device) => {
    let stuck = true;
    device.hooks.register = (offset, value) => (stuck && offset === Nvme.CSTS ? 3 : value);
    device.fn.events.on("reset", () => void (stuck = false));
    device.hooks.command = (command) => (isRead(command) && stuck ? "swallow" : undefined);
    assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
  }));

// --- Sleep, resets by others, removal -------------------------------------------------------------------------------

test("registers lost in the machine's sleep, told by an event: I/O goes on", () =>
  running(async (nvme, device) => {
    device.hooks.command = (command) => (command.queueId > 0 ? "hold" : undefined);
    const reads = Array.from({ length: 5 }, (_, i) => nvme.namespace(1).read(i, 1));
    await turns(3);
    device.loseRegisters();
    device.hooks.command = () => undefined;
    const resumed = new Promise((resolve) => nvme.events.on("resumed", resolve));
    device.fn.events.emit("resumed", { sleptMs: 4000 });
    assert.equal((await Promise.all(reads)).length, 5);
    assert.deepEqual(await resumed, { sleptMs: 4000 });
    while (device.pendingEventRequests === 0) await turns(1);
  }));

test("registers lost without any event: found by the time-out", () =>
  running(async (nvme, device) => {
    device.loseRegisters();
    const read = nvme.namespace(1).read(0, 1);
    assert.equal((await read).length, 512);
    assert.equal(device.enables, 2);
  }));

test("a function reset, ours and somebody else's", () =>
  running(async (nvme, device) => {
    device.hooks.command = (command) => (isWrite(command) ? "hold" : undefined);
    const write = nvme.namespace(1).write(7, new Uint8Array(512).fill(9));
    await turns(3);
    device.hooks.command = () => undefined;
    await nvme.reset();
    await write;
    assert.equal(device.disks.get(1)?.bytes[7 * 512], 9);
    await device.fn.reset();
    assert.equal((await nvme.namespace(1).read(7, 1))[0], 9);
    assert.equal(device.enables, 3);
  }));

test("a platform error: the driver waits for recovery", () =>
  running(async (nvme, device) => {
    device.loseRegisters();
    device.fn.events.emit("error", { description: "uncorrected" });
    const read = nvme.namespace(1).read(0, 1);
    device.fn.events.emit("recovered", { description: "link is back" });
    assert.equal((await read).length, 512);
  }));

/** The function comes back without its state, as a server does that died and was started again. */
function loseState(device: FakeNvme): void {
  device.loseRegisters();
  device.fn.events.emit("recovered", { description: "the server is back" });
}

test("lost once more while it is brought back: the recovery begins anew and awaits no time-out", () => {
  const clock = new VirtualClock();
  return running(
    async (nvme, device) => {
      let losses = 3;
      device.hooks.command = ({ queueId }) => {
        if (queueId !== 0 || losses-- <= 0) return undefined;
        setImmediate(() => loseState(device));
        return "swallow";
      };
      const startMs = clock.now();
      loseState(device);
      assert.equal((await nvme.namespace(1).read(0, 1)).length, 512);
      assert.ok(clock.now() - startMs < 500, `${clock.now() - startMs} ms`);
      assert.ok(losses <= 0, "all of them happened");
    },
    { clock, adminTimeoutMs: 500 },
  );
});

test("lost again and again while it is brought back: that has an end", () =>
  running(async (nvme, device) => {
    device.hooks.command = ({ queueId }) => {
      if (queueId === 0) setImmediate(() => loseState(device));
      return queueId === 0 ? "swallow" : undefined;
    };
    loseState(device);
    await assert.rejects(nvme.namespace(1).read(0, 1), { code: "NVME_FAILED" });
  }));

test("lost while the driver starts: the start fails, and two set-ups never run at once", () =>
  startFails((device) => {
    device.hooks.command = () => {
      setImmediate(() => loseState(device));
      return "swallow";
    };
  }, "NVME_NOT_READY"));

test("pulled out in mid-I/O: everything rejects, at once", () =>
  running(async (nvme, device) => {
    device.hooks.command = (command) => (command.queueId > 0 ? "hold" : undefined);
    const reads = Array.from({ length: 300 }, (_, i) => nvme.namespace(1).read(i, 1));
    const smart = nvme.smart();
    const removed = new Promise((resolve) => nvme.events.on("removed", resolve));
    await turns(3);
    device.fn.remove();
    for (const result of await Promise.allSettled(reads)) {
      assert.ok(result.status === "rejected" && (result.reason as { code: string }).code === "FUNCTION_REMOVED");
    }
    await smart.catch(() => {});
    assert.deepEqual(((await removed) as { code: string }).code, "FUNCTION_REMOVED");
    await assert.rejects(nvme.namespace(1).read(0, 1), { code: "FUNCTION_REMOVED" });
  }));

test("wanted back: what completes soon completes, the rest rejects, the function is let go", () =>
  running(async (nvme, device) => {
    let holds = 1;
    device.hooks.command = (command) => (isRead(command) && holds-- > 0 ? "hold" : undefined);
    const stuck = nvme.namespace(1).read(0, 1);
    const fine = nvme.namespace(1).write(1, new Uint8Array(512));
    device.fn.events.emit("removal-requested", { graceMs: 3000 });
    await fine;
    await assert.rejects(stuck, { code: "FUNCTION_REMOVED" });
    await assert.rejects(nvme.namespace(1).read(0, 1), { code: "FUNCTION_REMOVED" });
    while (!device.fn.gone.aborted) await turns(1);
    assert.ok(device.shutDown);
  }));

test("pulled out during the start", async () => {
  for (const after of [0, 1, 3, 6, 8]) {
    const device = new FakeNvme();
    let left = after;
    device.hooks.command = () => {
      if (left-- === 0) device.fn.remove();
      return undefined;
    };
    await assert.rejects(NvmeDriver.start(device.fn, { clock: new VirtualClock(), ...quick }), {
      code: "FUNCTION_REMOVED",
    });
  }
});

test("unsafe commands in flight at a reset are reported, not repeated", () =>
  running(async (nvme, device) => {
    const opcode = AdminOpcode.FORMAT_NVM;
    device.hooks.command = (command) => (command.opcode === opcode ? "swallow" : undefined);
    const format = nvme.admin.queue.execute({ what: "format", opcode, nsid: 1, repeatable: false });
    const expected = assert.rejects(format, { code: "NVME_COMMAND_LOST" });
    await turns(3);
    await nvme.reset();
    await expected;
    assert.ok(!device.executed.includes(`0:${opcode}`));
  }));

// --- Everything together --------------------------------------------------------------------------------------------

test("no acknowledged write is lost, whatever happens in between", async () => {
  const mishap = fc.constantFrom("hold", "swallow", "vanish", "fatal", "sleep", "forge", "reset", "drop");
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(mishap, fc.nat({ max: 60 })), { maxLength: 4 }), async (mishaps) => {
      await running(
        async (nvme, device) => {
          let count = 0;
          let drops = 0;
          device.hooks.completion = (_, { queueId }) => (queueId > 0 && drops-- > 0 ? "drop" : undefined);
          device.hooks.command = ({ queueId }) => {
            if (queueId === 0) return undefined;
            const at = count++;
            const found = mishaps.find(([, when]) => when === at)?.[0];
            if (found === "fatal") device.fatal();
            if (found === "sleep") setImmediate(() => device.loseRegisters());
            if (found === "forge") device.forge({ cid: 0xfff0 }, 1);
            if (found === "reset") void device.fn.reset();
            drops = found === "drop" ? 1 : 0;
            return found === "hold" || found === "swallow" || found === "vanish" ? found : undefined;
          };
          const acknowledged = new Map<number, number>();
          const workers = Array.from({ length: 8 }, async (_, worker) => {
            for (let round = 1; round <= 6; round++) {
              const block = worker * 8 + (round % 2);
              const value = worker * 16 + round;
              acknowledged.delete(block);
              const done = await nvme
                .namespace(1)
                .write(block, new Uint8Array(512).fill(value))
                .then(
                  () => true,
                  () => false,
                );
              if (done) acknowledged.set(block, value);
            }
          });
          await Promise.all(workers);
          for (const [block, value] of acknowledged) {
            assert.equal(device.disks.get(1)?.bytes[block * 512], value, `block ${block}`);
          }
        },
        { queueDepth: 5, completion: "interrupt" },
      );
    }),
    { numRuns: 40 },
  );
});

test("after a lie nobody hears of a command while the controller can still reach its memory", () =>
  running(async (nvme, device) => {
    using buffer = nvme.allocate(4096);
    let held: FakeCommand | undefined;
    device.hooks.command = (command) => {
      if (!isRead(command) || held !== undefined) return undefined;
      held = command;
      return "hold";
    };
    let enabledWhenTold = true;
    const read = nvme
      .namespace(1)
      .readInto(buffer, 0, 1)
      .catch((error: { code: string }) => {
        assert.equal(error.code, "NVME_PROTOCOL");
        enabledWhenTold = (device.fn.bar(0).read32(Nvme.CC) & 1) !== 0 && device.enables === 1;
      });
    await turns(3);
    device.forge({ cid: 0x3fff }, 1);
    await read;
    assert.equal(enabledWhenTold, false);
  }));

test("more commands than slots, for long: all complete, and nothing of them is kept", () =>
  running(
    async (nvme) => {
      let done = 0;
      const worker = async (index: number): Promise<void> => {
        for (let round = 0; round < 40; round++) {
          await nvme.namespace(1).verify(index, 1);
          done++;
        }
      };
      await Promise.all(Array.from({ length: 100 }, (_, index) => worker(index)));
      assert.equal(done, 4000);
    },
    { queueDepth: 4 },
  ));

test("queues run out, and come back", () =>
  running(
    async (nvme) => {
      const rings = [await nvme.openRing({ entries: 2 }), await nvme.openRing({ entries: 2 })];
      await assert.rejects(nvme.openRing(), { code: "NVME_NO_QUEUE" });
      await assert.rejects(nvme.openRing({ entries: 5000 }), { code: "NVME_NO_QUEUE" });
      for (const ring of rings) await ring[Symbol.asyncDispose]();
      await assert.rejects(nvme.openRing({ entries: 5000 }), { code: "NVME_QUEUE_SIZE" });
      await using _ = await nvme.openRing();
    },
    {},
    { maxIoQueues: 3 },
  ));

test("a queue that the controller refuses leaves nothing behind", () =>
  running(async (nvme, device) => {
    const before = device.fn.dma.mappedBytes;
    device.hooks.command = ({ opcode, queueId }) =>
      queueId === 0 && opcode === AdminOpcode.CREATE_IO_SUBMISSION_QUEUE ? 0x101 : undefined;
    await assert.rejects(nvme.openRing(), { code: "NVME_STATUS" });
    assert.equal(device.fn.dma.mappedBytes, before);
    device.hooks.command = () => undefined;
    await using _ = await nvme.openRing();
  }));
