// The thread's arena is one, whoever asked first: here a browser-safe floor did.
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultArena as threadArena } from "../memory/default-arena.ts";
import { defaultArena } from "./arena-memory.ts";
import { createMemoryFile } from "./memory-file.ts";
import { pageSize } from "./memory-map.ts";
import { DeviceWindow } from "./windows.ts";

test("an arena that was made without the system takes windows afterwards", () => {
  const first = threadArena();
  using before = first.reserve(pageSize);
  before.bytes.fill(7);
  assert.equal(defaultArena(), first);
  assert.equal(threadArena(), first);
  assert.ok(before.bytes.every((byte) => byte === 7));
  using file = createMemoryFile(pageSize);
  using window = DeviceWindow.map(first, file, 0, pageSize);
  window.write32(0, 5);
  assert.equal(window.read32(0), 5);
});
