import assert from "node:assert/strict";
import { test } from "node:test";
import * as messages from "./messages.ts";

test("each structure has the size that the specification gives", () => {
  const sizes = {
    Header: 16,
    Version: 4,
    DmaMap: 32,
    DmaUnmap: 24,
    DmaBitmap: 16,
    DeviceInfo: 16,
    RegionInfo: 32,
    RegionCapabilityHeader: 8,
    SparseMmap: 16,
    SparseMmapArea: 16,
    RegionIoFds: 16,
    SubRegionIoEventFd: 40,
    SubRegionIoEventFdShadow: 48,
    IrqInfo: 16,
    IrqSet: 20,
    RegionAccess: 16,
    RegionWriteMulti: 8,
    MultiWrite: 24,
    DmaAccess: 16,
    DmaAccess32: 12,
    DeviceFeature: 8,
    FeatureMigration: 8,
    FeatureMigrationState: 8,
    FeatureDmaLoggingStart: 16,
    DmaLoggingRange: 16,
    FeatureDmaLoggingReport: 24,
    MigrationData: 8,
  } as const;
  const declared = new Map<string, unknown>(Object.entries(messages));
  for (const [name, size] of Object.entries(sizes)) {
    assert.equal((declared.get(name) as { size: number }).size, size, name);
  }
});

test("a header as the specification draws it", () => {
  // Reply with error EINVAL to a REGION_WRITE with id 0x1234.
  const bytes = Uint8Array.of(0x34, 0x12, 10, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 22, 0, 0, 0);
  const header = messages.Header.from(bytes);
  assert.deepEqual(header, { message_id: 0x1234, command: 10, size: 16, flags: 0x21, error: 22 });
  assert.equal(header.flags & messages.HeaderFlag.TYPE_MASK, messages.HeaderFlag.REPLY);
  assert.ok((header.flags & messages.HeaderFlag.ERROR) !== 0);
  assert.deepEqual(messages.Header.bytes(header), bytes);
});

test("commands have the specification's numbers, and 14 belongs to nobody", () => {
  assert.equal(messages.commandName(9), "REGION_READ");
  assert.equal(messages.commandName(18), "MIG_DATA_WRITE");
  assert.equal(messages.commandName(14), "command 14");
  assert.deepEqual(Object.values(messages.Command), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18]);
});
