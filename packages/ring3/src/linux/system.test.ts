// seconds: 1
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readlinkSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { Worker } from "node:worker_threads";
import { createArena } from "./arena-memory.ts";
import { bootTimeMs, monotonicMs } from "./clock.ts";
import { ERRNO, errnoName, systemCallError } from "./errno.ts";
import { EventFd } from "./event-fd.ts";
import { FileIntegers, readAt, tryReadAt, tryWriteAt, writeAt } from "./file-access.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import { ioctl, tryIoctl } from "./ioctl.ts";
import { lockedMemory, lockedMemoryLimit, mayLockWithoutLimit, openFilesCount, openFilesLimit } from "./limits.ts";
import { MappedMemory } from "./mapped-memory.ts";
import { createMemoryFile, sealAgainstWriting } from "./memory-file.ts";
import { pageSize } from "./memory-map.ts";
import * as native from "./native.ts";
import { waitReadable, watch } from "./poller.ts";
import { SuspendWatch } from "./suspend-watch.ts";
import { parseUevent, type UeventNotice, UeventStream } from "./uevents.ts";

const FIONREAD = 0x541b;
const TIOCGWINSZ = 0x5413;

describe("errno", () => {
  test("names, numbers and meanings", () => {
    assert.equal(errnoName(16), "EBUSY");
    assert.equal(errnoName(4095), "E4095");
    assert.equal(new Set(Object.values(ERRNO).map(([number]) => number)).size, Object.keys(ERRNO).length);
    const error = systemCallError("open /dev/vfio/14", 16, "stop the other driver");
    assert.deepEqual([error.code, error.errno, error.call], ["SYSTEM_CALL", "EBUSY", "open /dev/vfio/14"]);
    assert.match(error.message, /EBUSY.*somebody else.*stop the other driver/);
    assert.equal(systemCallError("x", 4095).errno, "E4095");
  });

  test("numbers agree with Node's", async () => {
    const { constants } = (await import("node:os")).default;
    for (const [name, number] of Object.entries(constants.errno)) {
      if (name in ERRNO) assert.equal(ERRNO[name as keyof typeof ERRNO][0], number, name);
    }
  });
});

describe("file descriptors", () => {
  test("open, close twice, use after close", () => {
    const fd = FileDescriptor.open("/dev/null");
    assert.equal(readlinkSync(`/proc/self/fd/${fd.number}`), "/dev/null");
    using second = fd.duplicate();
    fd.close();
    fd.close();
    assert.equal(fd.closed, true);
    assert.throws(() => fd.number, { code: "FD_CLOSED" });
    assert.throws(() => fd.duplicate(), { code: "FD_CLOSED" });
    assert.equal(tryWriteAt(second, 0, new Uint8Array(4)), 4);
    assert.throws(() => FileDescriptor.open("/nonexistent/x", OPEN.READ, 0, "mount it"), {
      code: "SYSTEM_CALL",
      errno: "ENOENT",
      call: "open /nonexistent/x",
      message: /mount it/,
    });
    assert.throws(() => FileDescriptor.open("/dev/nu\0ll"), { code: "PATH_INVALID" });
    assert.throws(() => new FileDescriptor(-1), RangeError);
  });

  test("dependents go first, once, and may be taken back", () => {
    const fd = FileDescriptor.open("/dev/null");
    const order: string[] = [];
    fd.closesAfter({ [Symbol.dispose]: () => order.push(`window ${fd.closed}`) });
    fd.closesAfter({ [Symbol.dispose]: () => order.push("gone") })();
    fd.close();
    fd.close();
    assert.deepEqual(order, ["window false"]);
  });

  test("descriptors are not inherited by children", () => {
    using file = createMemoryFile(pageSize, { name: "ring3-inherit" });
    using listing = FileDescriptor.open("/dev/null");
    assert.ok(file.number > 2 && listing.number > 2);
    assert.doesNotMatch(execFileSync("ls", ["-l", "/proc/self/fd"], { encoding: "utf8" }), /ring3-inherit/);
  });
});

describe("ioctl", () => {
  test("numbers, structures copied back, errors by name", () => {
    const { read, write } = FileDescriptor.pipe();
    tryWriteAt(write, 0, new Uint8Array(4));
    assert.equal(tryIoctl(read, TIOCGWINSZ, new Uint8Array(8)), -ERRNO.ENOTTY[0]);
    assert.throws(() => ioctl(read, "TIOCGWINSZ", TIOCGWINSZ, new Uint8Array(8)), {
      errno: "ENOTTY",
      call: "ioctl TIOCGWINSZ",
    });
    using text = FileDescriptor.open("/proc/self/status", OPEN.READ);
    assert.throws(() => ioctl(text, "FIONREAD", FIONREAD, 1), { code: "SYSTEM_CALL" });
    read.close();
    write.close();
    assert.throws(() => tryIoctl(read, FIONREAD, 0), { code: "FD_CLOSED" });
  });

  test("embedded pointers reach the memory and are not shown", () => {
    // SIOCGIFCONF: { int length; pad; pointer } and the kernel fills what the pointer points to with `lo`.
    const SIOCGIFCONF = 0x8912;
    const arena = createArena();
    using range = arena.reserve(pageSize);
    using mapped = MappedMemory.anonymous(pageSize);
    using socket = udpSocket();
    for (const memory of [range, mapped, new Uint8Array(400)]) {
      const structure = new Uint8Array(16);
      new DataView(structure.buffer).setInt32(0, 400, true);
      const target = memory instanceof Uint8Array ? memory : memory.bytes;
      ioctl(socket, "SIOCGIFCONF", SIOCGIFCONF, structure, [{ at: 8, memory }]);
      const length = new DataView(structure.buffer).getInt32(0, true);
      assert.ok(length >= 40 && length < 400 && length % 40 === 0);
      assert.equal(new TextDecoder().decode(target.slice(0, 2)), "lo");
      assert.deepEqual([...structure.subarray(8)], Array(8).fill(0));
    }
    const far = { arena, offset: arena.size };
    assert.throws(() => ioctl(socket, "SIOCGIFCONF", SIOCGIFCONF, new Uint8Array(16), [{ at: 8, memory: far }]), {
      code: "ARENA_RANGE",
    });
  });
});

test("reads and writes at offsets", () => {
  using file = createMemoryFile(2 * pageSize);
  const integers = new FileIntegers(file);
  integers.write(0, 4, 0xffff_fffe);
  integers.write(4, 2, 0x1_2345);
  integers.write(6, 1, 0x1ff);
  integers.write64(8, 2n ** 64n - 2n);
  assert.deepEqual([integers.read(0, 4), integers.read(4, 2), integers.read(6, 1)], [0xffff_fffe, 0x2345, 0xff]);
  assert.equal(integers.read64(8), 2n ** 64n - 2n);
  writeAt(file, pageSize, Uint8Array.of(1, 2, 3));
  const bytes = new Uint8Array(3);
  readAt(file, pageSize, bytes);
  assert.deepEqual([...bytes], [1, 2, 3]);
  assert.equal(tryReadAt(file, 2 * pageSize - 2, new Uint8Array(4)), 2);
  assert.throws(() => readAt(file, 2 * pageSize, bytes), { errno: "EIO", message: /end/ });
  sealAgainstWriting(file);
  assert.equal(tryWriteAt(file, 0, bytes), -ERRNO.EPERM[0]);
});

test("memory outside the arena: shared, private, detached after disposal", () => {
  using file = createMemoryFile(pageSize);
  const shared = MappedMemory.file(file, 0, pageSize);
  const copy = MappedMemory.file(file, 0, pageSize, { shared: false });
  const view = shared.bytes;
  view[5] = 9;
  assert.equal(copy.bytes[5], 9);
  copy.bytes[5] = 1;
  assert.equal(view[5], 9);
  shared[Symbol.dispose]();
  shared[Symbol.dispose]();
  copy[Symbol.dispose]();
  assert.equal(view.length, 0);
  assert.equal(view[5], undefined);
  assert.throws(() => shared.bytes, { code: "MEMORY_UNMAPPED" });
  assert.throws(() => MappedMemory.file(file, 0, 2 * pageSize), { code: "NOT_MAPPABLE" });
  assert.throws(() => createMemoryFile(0), { code: "SIZE_INVALID" });
  assert.throws(() => createMemoryFile(4096, { huge: true }), { code: "SIZE_INVALID" });
});

describe("eventfd and the event loop", () => {
  test("counts, and wakes once per signal that was not seen yet, in order", async () => {
    using signal = new EventFd();
    signal.write(2);
    signal.write();
    assert.equal(signal.read(), 3);
    assert.equal(signal.read(), 0);
    const seen: number[] = [];
    await new Promise<void>((resolve) => {
      using _unused = signal.watch(() => seen.push(-1));
      resolve();
    });
    const done = new Promise<void>((resolve) => {
      signal.watch((count) => {
        seen.push(count);
        if (seen.length < 4) signal.write(seen.length + 1);
        else resolve();
      });
    });
    signal.write(1);
    await done;
    assert.deepEqual(seen, [1, 2, 3, 4]);
  });

  test("promises resolved in a callback go on at once; exceptions are not lost", async () => {
    using signal = new EventFd();
    let resolve: (count: number) => void = () => {};
    signal.watch((count) => resolve(count));
    for (let i = 1; i <= 3; i++) {
      const next = new Promise<number>((done) => {
        resolve = done;
      });
      signal.write(i);
      assert.equal(await next, i);
    }
    const script = `
      const { EventFd } = await import(${JSON.stringify(new URL("./event-fd.ts", import.meta.url).href)});
      const signal = new EventFd();
      process.on("uncaughtException", (error) => { console.log(error.message); signal.fd.close(); });
      signal.watch(() => { throw new Error("from the callback"); });
      signal.write();`;
    const output = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    assert.equal(output, "from the callback\n");
  });

  test("a watch survives garbage collection, and one that keeps nothing alive lets the process end", () => {
    const module = JSON.stringify(new URL("./event-fd.ts", import.meta.url).href);
    const script = `
      const { EventFd } = await import(${module});
      const idle = new EventFd(); idle.watch(() => {}, { keepsAlive: false });
      const signal = new EventFd();
      signal.watch((count) => { console.log("woken", count); signal.fd.close(); });
      for (let i = 0; i < 5; i++) globalThis.gc();
      signal.write();`;
    const flags = ["--expose-gc", "--input-type=module", "-e", script];
    assert.equal(execFileSync(process.execPath, flags, { encoding: "utf8", timeout: 20_000 }), "woken 1\n");
  });

  test("a disconnected peer is told; a descriptor is watched once; closing ends the watch", async () => {
    const { read, write } = FileDescriptor.pipe();
    const gone = new Promise<boolean>((resolve) => {
      const watching = watch(read, ({ disconnected, readable }) => {
        watching[Symbol.dispose]();
        watching[Symbol.dispose]();
        resolve(disconnected || readable);
      });
    });
    write.close();
    assert.equal(await gone, true);
    const again = watch(read, () => {});
    assert.throws(() => watch(read, () => {}), { code: "FD_WATCHED" });
    using file = createMemoryFile(pageSize);
    assert.throws(() => watch(file, () => {}), { code: "SYSTEM_CALL", errno: "EPERM" });
    read.close();
    again.unref();
    again.ref();
    assert.throws(() => watch(read, () => {}), { code: "FD_CLOSED" });
  });

  test("a worker blocks for a descriptor that the main thread signals", async () => {
    using signal = new EventFd();
    using answer = new EventFd();
    const worker = new Worker(
      `const { workerData } = require("node:worker_threads");
       Promise.all([import(workerData.events), import(workerData.poller), import(workerData.files)])
         .then(([{ EventFd }, { waitReadable }, { FileDescriptor }]) => {
           const signal = new EventFd(new FileDescriptor(workerData.signal));
           const answer = new EventFd(new FileDescriptor(workerData.answer));
           while (waitReadable([signal.fd], 20_000).length === 0);
           answer.write(signal.read() * 2);
         });`,
      {
        eval: true,
        workerData: {
          signal: signal.fd.number,
          answer: answer.fd.number,
          events: new URL("./event-fd.ts", import.meta.url).href,
          poller: new URL("./poller.ts", import.meta.url).href,
          files: new URL("./file-descriptor.ts", import.meta.url).href,
        },
      },
    );
    const answered = new Promise<number>((resolve) => answer.watch(resolve));
    signal.write(21);
    assert.equal(await answered, 42);
    await worker.terminate();
  });

  test("a bounded wait ends without an event", () => {
    using one = new EventFd();
    using two = new EventFd();
    assert.deepEqual(waitReadable([one.fd, two.fd], 0), []);
    assert.deepEqual(waitReadable([one.fd, two.fd], 1.5), []);
    two.write();
    assert.deepEqual(waitReadable([one.fd, two.fd]), [two.fd]);
  });
});

describe("uevents", () => {
  const message =
    "add@/devices/pci0000:00/0000:00:01.0\0ACTION=add\0DEVPATH=/devices/pci0000:00/0000:00:01.0\0SUBSYSTEM=pci\0PCI_ID=1B36:0010\0X=a=b\0";

  test("decodes the kernel's message and survives anything else", () => {
    const event = parseUevent(new TextEncoder().encode(message));
    assert.equal(event?.action, "add");
    assert.equal(event?.devpath, "/devices/pci0000:00/0000:00:01.0");
    assert.equal(event?.subsystem, "pci");
    assert.equal(event?.properties["PCI_ID"], "1B36:0010");
    assert.equal(event?.properties["X"], "a=b");
    for (const odd of ["", "libudev\0\xfe\xed\xca\xfe", "@x\0", "noaction", "add"]) {
      assert.equal(parseUevent(new TextEncoder().encode(odd)), undefined);
    }
    assert.equal(parseUevent(new TextEncoder().encode("change@/x\0__proto__=1\0"))?.properties["__proto__"], "1");
  });

  test("opens as anybody; disposal ends iterators and refuses listeners", async () => {
    const stream = new UeventStream();
    const iterator = stream[Symbol.asyncIterator]();
    const waiting = iterator.next();
    stream.listen(() => {})[Symbol.dispose]();
    stream[Symbol.dispose]();
    stream[Symbol.dispose]();
    assert.deepEqual(await waiting, { done: true, value: undefined });
    assert.deepEqual(await stream[Symbol.asyncIterator]().next(), { done: true, value: undefined });
    assert.throws(() => stream.listen(() => {}), { code: "STREAM_CLOSED" });
  });
});

describe("uevents of this kernel", {
  skip: process.getuid?.() === 0 ? false : "asking for an event takes root",
}, () => {
  const request = "/sys/devices/virtual/mem/null/uevent";
  const isOurs = (notice: UeventNotice): boolean =>
    notice.type === "event" && notice.event.devpath === "/devices/virtual/mem/null";

  test("arrive", async () => {
    using stream = new UeventStream({ keepsAlive: true });
    writeFileSync(request, "change");
    for await (const notice of stream) {
      if (!isOurs(notice)) continue;
      assert.ok(notice.type === "event" && notice.event.action === "change" && notice.event.subsystem === "mem");
      break;
    }
  });

  test("when they come too fast, the overflow is told and later ones arrive", async () => {
    using stream = new UeventStream({ keepsAlive: true });
    for (let i = 0; i < 6000; i++) writeFileSync(request, "change");
    let overflowed = false;
    for await (const notice of stream) {
      if (notice.type === "overflow" && !overflowed) {
        overflowed = true;
        writeFileSync(request, "remove");
      }
      if (notice.type === "event" && notice.event.action === "remove") break;
    }
    assert.equal(overflowed, true);
  });
});

describe("system suspend", () => {
  test("sleep is what BOOTTIME runs ahead of MONOTONIC", () => {
    let bootTime = 1000;
    let monotonic = 400;
    using suspend = new SuspendWatch({ bootTimeMs: () => bootTime, monotonicMs: () => monotonic });
    const told: number[] = [];
    const listening = suspend.listen((sleptMs) => told.push(sleptMs));
    bootTime += 5000;
    monotonic += 5000;
    assert.equal(suspend.check(), 0);
    bootTime += 4000;
    assert.equal(suspend.check(), 4000);
    assert.equal(suspend.check(), 0);
    listening[Symbol.dispose]();
    bootTime += 100;
    assert.equal(suspend.check(), 100);
    assert.deepEqual(told, [4000]);
    suspend[Symbol.dispose]();
  });

  test("a thread that is preempted between two readings did not sleep", () => {
    let now = 0;
    let stalled = true;
    const clock = (): number => {
      if (stalled) now += 30;
      return now;
    };
    using suspend = new SuspendWatch({ bootTimeMs: clock, monotonicMs: clock });
    assert.equal(suspend.check(), 0);
    stalled = false;
    assert.equal(suspend.check(), 0);
    stalled = true;
    assert.equal(suspend.check(), 0);
  });

  test("the real clocks agree while the machine is awake, and the watch does not keep the process alive", () => {
    const before = monotonicMs();
    assert.ok(bootTimeMs() >= before);
    const script = `
      const { SuspendWatch } = await import(${JSON.stringify(new URL("./suspend-watch.ts", import.meta.url).href)});
      console.log(new SuspendWatch().check());`;
    const output = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
      timeout: 20_000,
    });
    assert.equal(output, "0\n");
  });
});

test("limits are those that the shell sees", () => {
  const shell = (command: string): number | undefined => {
    const output = execFileSync("sh", ["-c", command], { encoding: "utf8" }).trim();
    return output === "unlimited" ? undefined : Number(output);
  };
  assert.equal(openFilesLimit().current, shell("ulimit -n"));
  assert.equal(openFilesLimit().maximum, shell("ulimit -H -n"));
  const locked = lockedMemoryLimit();
  assert.ok(locked.current === undefined || locked.current <= (locked.maximum ?? Number.POSITIVE_INFINITY));
  assert.ok(lockedMemory().lockedBytes >= 0 && lockedMemory().pinnedBytes >= 0);
  assert.equal(typeof mayLockWithoutLimit(), "boolean");
  const before = openFilesCount();
  using _file = FileDescriptor.open("/dev/null");
  assert.equal(openFilesCount(), before + 1);
});

function udpSocket(): FileDescriptor {
  return new FileDescriptor(native.systemCall("socket", () => native.socket(2, 2, 0)));
}
