// BARs and config space over a file in memory: the kernel's device file behaves the same for what is tested here.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { createArena } from "../linux/arena-memory.ts";
import { readAt, writeAt } from "../linux/file-access.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import { createMemoryFile } from "../linux/memory-file.ts";
import { ConfigSpace } from "../pci/config-space.ts";
import type { ByteRange } from "../pci/function.ts";
import { WindowGate } from "../pci/window-gate.ts";
import { VfioBar } from "./bar.ts";
import { VfioConfigAccess } from "./config-access.ts";
import { mappableAreas, type Region } from "./region.ts";

const arena = createArena({ initialBytes: 2 ** 20 });
const size = 0x8000;
let file: FileDescriptor;
let gate: WindowGate;

beforeEach(() => {
  file = createMemoryFile(2 * size);
  gate = new WindowGate();
  const words = new Uint32Array((2 * size) / 4).map((_, i) => i * 4);
  writeAt(file, 0, new Uint8Array(words.buffer));
});
afterEach(() => file.close());

function bar(options: { forbidden?: ByteRange; kind?: "io" | "memory64"; bytes?: number } = {}): VfioBar {
  const region: Region = {
    index: 0,
    size: options.bytes ?? size,
    fileOffset: size,
    readable: true,
    writable: true,
    mmap: options.kind !== "io",
    sparse: undefined,
    msixMappable: false,
    type: undefined,
  };
  const mappable = mappableAreas(region, options.forbidden);
  return new VfioBar({
    index: 0,
    kind: options.kind ?? "memory64",
    prefetchable: false,
    region,
    mappable,
    fd: file,
    arena,
    gate,
  });
}

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isRing3Error(error)) return error.code;
    throw error;
  }
  return "nothing";
}

describe("BAR", () => {
  test("the slow way and the mapped way are one memory", () => {
    const slow = bar();
    const fast = slow.registers();
    assert.equal(slow.read32(0x1234), size + 0x1234);
    assert.equal(fast.read32(0x1234), size + 0x1234);
    assert.notEqual(fast.arenaOffset, undefined);
    fast.write16(0x100, 0xbeef);
    assert.equal(slow.read16(0x100), 0xbeef);
    slow.write64(0x200, 0x1122_3344_5566_7788n);
    assert.equal(fast.read64(0x200), 0x1122_3344_5566_7788n);
    slow.write8(0x300, 0xab);
    assert.equal(fast.read8(0x300), 0xab);
    assert.deepEqual([...slow.readBytes(0x200, 3)], [0x88, 0x77, 0x66]);
    assert.equal(slow.registers().arenaOffset, fast.arenaOffset, "one window serves all users of a range");
  });

  test("a range counts from its own start, also where windows cannot begin", () => {
    const registers = bar().registers({ offset: 0x1004, size: 8 });
    assert.equal(registers.size, 8);
    assert.equal(registers.read32(0), size + 0x1004);
    assert.equal(registers.read32(4), size + 0x1008);
    assert.equal(
      code(() => registers.read64(0)),
      "REGISTER_RANGE",
      "alignment counts as the device sees it",
    );
    assert.equal(
      code(() => registers.read32(8)),
      "REGISTER_RANGE",
    );
    registers.write32(4, 7);
    assert.equal(bar().read32(0x1008), 7);
  });

  test("around the MSI-X table it is served piece by piece", () => {
    const carved = bar({ forbidden: { offset: 0x2000, size: 0x100 } });
    assert.deepEqual(carved.mappable, [
      { offset: 0, size: 0x2000 },
      { offset: 0x3000, size: 0x5000 },
    ]);
    const registers = carved.registers();
    assert.equal(registers.size, size);
    for (const at of [0, 0x1ffc, 0x2000, 0x2ffc, 0x3000, 0x7ffc]) assert.equal(registers.read32(at), size + at);
    for (const at of [0x1ff8, 0x2ff8, 0x3008]) {
      registers.write64(at, BigInt(at));
      assert.equal(carved.read64(at), BigInt(at));
    }
    assert.equal(
      code(() => carved.map()),
      "NOT_MAPPABLE",
    );
    using part = carved.map({ offset: 0x3000, size: 0x1000 });
    assert.equal(part.read32(0x10), size + 0x3010);
  });

  test("a BAR smaller than a page is mapped with its page and ends where it ends", () => {
    const small = bar({ bytes: 256 });
    const registers = small.registers();
    assert.equal(registers.size, 256);
    assert.equal(registers.read32(252), size + 252);
    assert.equal(
      code(() => registers.read32(256)),
      "REGISTER_RANGE",
    );
  });

  test("I/O ports are not mapped and take no 64-bit access", () => {
    const ports = bar({ kind: "io", bytes: 32 });
    assert.deepEqual(ports.mappable, []);
    assert.equal(ports.registers().read32(4), size + 4);
    assert.equal(
      code(() => ports.read64(0)),
      "NOT_SUPPORTED",
    );
  });

  test("obstacles add up, and windows come back with the last", () => {
    const registers = bar().registers();
    gate.block("memory decoding is off");
    gate.block("the function sleeps");
    assert.equal(
      code(() => registers.read32(0)),
      "REGION_DISABLED",
    );
    assert.equal(
      code(() => bar().map()),
      "REGION_DISABLED",
    );
    gate.unblock("memory decoding is off");
    assert.equal(
      code(() => registers.read32(0)),
      "REGION_DISABLED",
    );
    gate.unblock("the function sleeps");
    assert.equal(registers.read32(0x40), size + 0x40);
  });

  test("closed, everything says so and nothing comes back", () => {
    const one = bar();
    const registers = one.registers();
    gate.close(new Ring3Error("FUNCTION_CLOSED", "on purpose"));
    gate.unblock("memory decoding is off");
    assert.equal(
      code(() => registers.read32(0)),
      "REGION_REVOKED",
    );
    assert.equal(
      code(() => one.read32(0)),
      "FUNCTION_CLOSED",
    );
    assert.equal(
      code(() => one.registers()),
      "FUNCTION_CLOSED",
    );
  });

  test("closing the file revokes the windows before the number is free", () => {
    const registers = bar().registers();
    file.close();
    assert.equal(
      code(() => registers.read32(0)),
      "REGION_REVOKED",
    );
  });
});

describe("config writes that take BARs away", () => {
  const PMCSR = 0x44;
  const DEVICE_CONTROL = 0x58;

  /** Config space in the file's first 256 bytes, with memory decoding on. */
  function config(afterReset: () => void = () => undefined): { config: ConfigSpace; access: VfioConfigAccess } {
    writeAt(file, 0, new Uint8Array(256));
    writeAt(file, 4, Uint8Array.of(3, 0));
    const access = new VfioConfigAccess(file, 0, 256, gate);
    access.watch({ powerState: PMCSR, resets: [{ offset: DEVICE_CONTROL + 1, mask: 0x80 }] }, afterReset);
    return { config: new ConfigSpace(access), access };
  }

  test("memory decoding, at every width and in ranges", () => {
    const { config: space } = config();
    const registers = bar().registers();
    const off: (() => void)[] = [
      () => space.write8(4, 1),
      () => space.write16(4, 0),
      () => space.write32(4, 4),
      () => space.writeBytes(2, new Uint8Array(4)),
    ];
    for (const [i, write] of off.entries()) {
      write();
      assert.equal(
        code(() => registers.read32(0)),
        "REGION_DISABLED",
        `write ${i}`,
      );
      space.write16(4, 2);
      assert.equal(registers.read32(0), size);
    }
    space.write8(5, 0xff);
    space.write16(6, 0);
    assert.equal(registers.read32(0), size, "neighbours of the bit do nothing");
  });

  test("power states", () => {
    const { config: space } = config();
    const registers = bar().registers();
    for (const state of [1, 2, 3]) {
      space.write16(PMCSR, state);
      assert.equal(
        code(() => registers.read32(0)),
        "REGION_DISABLED",
      );
      space.write16(PMCSR, 0);
      assert.equal(registers.read32(0), size);
    }
  });

  test("what counts is what the register says after the write", () => {
    const { config: space, access } = config();
    const registers = bar().registers();
    writeAt(file, 4, Uint8Array.of(0, 0));
    access.followState();
    assert.equal(
      code(() => registers.read32(0)),
      "REGION_DISABLED",
      "switched off behind our back",
    );
    space.write16(4, 2);
    assert.equal(registers.read32(0), size);
  });

  test("a function-level reset through config space", () => {
    let resets = 0;
    const { config: space } = config(() => resets++);
    const registers = bar().registers();
    space.write16(DEVICE_CONTROL, 0x2810);
    assert.equal(resets, 0);
    space.write16(DEVICE_CONTROL, 0x8000);
    assert.equal(resets, 1);
    assert.equal(registers.read32(0), size);
  });

  test("ended, it reaches nothing", () => {
    const { config: space, access } = config();
    access.end(new Ring3Error("FUNCTION_CLOSED", "on purpose"));
    assert.equal(
      code(() => space.read16(0)),
      "FUNCTION_CLOSED",
    );
    assert.equal(
      code(() => space.write16(4, 0)),
      "FUNCTION_CLOSED",
    );
    const bytes = new Uint8Array(2);
    readAt(file, 4, bytes);
    assert.deepEqual([...bytes], [3, 0]);
  });
});
