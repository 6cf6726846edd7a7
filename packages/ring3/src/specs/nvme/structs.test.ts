// Sizes and offsets against the figures, and literal bytes as other implementations write them.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  Aqa,
  CapHigh,
  CapLow,
  Cc,
  Cdw0,
  CommandEffects,
  CompletionStatus,
  CreateCompletionCdw11,
  CreateSubmissionCdw11,
  Csts,
  completionDoorbell,
  DatasetRange,
  ErrorLogEntry,
  FeatureEffects,
  FirmwareLog,
  Flbas,
  HealthLog,
  IdentifyController,
  IdentifyNamespace,
  IndependentNamespace,
  IoCdw12,
  LbaFormat,
  LogCdw10,
  NamespaceDescriptor,
  NamespaceList,
  NvmController,
  Nvme,
  PowerState,
  SglDescriptor,
  Status,
  statusName,
  submissionDoorbell,
  Vs,
} from "./index.ts";

const hex = (text: string): Uint8Array =>
  Uint8Array.from(text.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16));

test("structures have the sizes of their figures", () => {
  const sizes = [
    [IdentifyController, 4096],
    [IdentifyNamespace, 4096],
    [NamespaceList, 4096],
    [NamespaceDescriptor, 4],
    [PowerState, 32],
    [HealthLog, 512],
    [ErrorLogEntry, 64],
    [FirmwareLog, 512],
    [DatasetRange, 16],
    [SglDescriptor, 16],
    [IndependentNamespace, 4096],
    [NvmController, 4096],
  ] as const;
  for (const [structure, size] of sizes) assert.equal(structure.size, size, structure.name);
});

test("members lie where the figures put them", () => {
  const controller = IdentifyController.offsets;
  assert.deepEqual(
    [
      controller.MDTS,
      controller.OACS,
      controller.SQES,
      controller.NN,
      controller.ONCS,
      controller.SGLS,
      controller.SUBNQN,
      controller.PSD,
    ],
    [77, 256, 512, 516, 520, 536, 768, 2048],
  );
  const namespace = IdentifyNamespace.offsets;
  assert.deepEqual(
    [namespace.FLBAS, namespace.NVMCAP, namespace.NGUID, namespace.EUI64, namespace.LBAF],
    [26, 48, 104, 120, 128],
  );
  assert.equal(HealthLog.offsets.MEDIA_ERRORS, 160);
  assert.equal(ErrorLogEntry.offsets.COMMAND_SPECIFIC, 32);
});

test("identify controller, from the first bytes of QEMU's", () => {
  const bytes = new Uint8Array(4096);
  bytes.set(hex("36 1b f4 1a"));
  bytes.set(new TextEncoder().encode("ring3-nvme0         QEMU NVMe Ctrl                          11.1    "), 4);
  bytes.set(hex("06 00 54 52 00 07 00 00 00 04 01 00"), 72);
  bytes.set(hex("66 44"), 512);
  bytes.set(hex("00 01 00 00 5d 01"), 516);
  const identify = IdentifyController.from(bytes);
  assert.equal(identify.VID, 0x1b36);
  assert.equal(identify.SSVID, 0x1af4);
  assert.equal(identify.SN, "ring3-nvme0");
  assert.equal(identify.MN, "QEMU NVMe Ctrl");
  assert.equal(identify.FR, "11.1");
  assert.equal(identify.RAB, 6);
  assert.equal(identify.MDTS, 7);
  assert.equal(identify.VER, 0x10400);
  assert.equal(identify.SQES, 0x66);
  assert.equal(identify.CQES, 0x44);
  assert.equal(identify.NN, 256);
  assert.equal(identify.ONCS, 0x15d);
});

test("identify namespace: 4 KiB format of two", () => {
  const bytes = new Uint8Array(4096);
  bytes.set(hex("00 40 00 00 00 00 00 00 00 40 00 00 00 00 00 00"));
  bytes[25] = 1;
  bytes[26] = 1;
  bytes.set(hex("00 00 09 00 08 00 0c 02"), 128);
  const identify = IdentifyNamespace.from(bytes);
  assert.equal(identify.NSZE, 16384n);
  const format = identify.LBAF[Flbas.LSB.get(identify.FLBAS)] ?? 0;
  assert.deepEqual([LbaFormat.MS.get(format), LbaFormat.LBADS.get(format), LbaFormat.RP.get(format)], [8, 12, 2]);
});

test("SMART: 128-bit counters", () => {
  const bytes = new Uint8Array(512);
  bytes.set(hex("04 43 01 64 0a 02"));
  bytes.set(hex("01 00 00 00 00 00 00 00 01 00 00 00 00 00 00 00"), 32);
  const log = HealthLog.from(bytes);
  assert.equal(log.CRITICAL_WARNING, 4);
  assert.equal(log.COMPOSITE_TEMPERATURE, 323);
  assert.deepEqual([log.AVAILABLE_SPARE, log.AVAILABLE_SPARE_THRESHOLD, log.PERCENTAGE_USED], [100, 10, 2]);
  assert.equal(log.DATA_UNITS_READ, 2n ** 64n + 1n);
});

test("dataset range and SGL descriptor, byte for byte", () => {
  assert.deepEqual(DatasetRange.bytes({ LENGTH: 8, SLBA: 0x1_0000_0002n }), hex("00000000 08000000 02000000 01000000"));
  const descriptor = SglDescriptor.bytes({ ADDRESS: 0x12_3456_7000n, LENGTH: 0x1000, KIND: 0x30 });
  assert.deepEqual(descriptor, hex("0070563412000000 00100000 00000030"));
});

test("registers: offsets and fields", () => {
  assert.deepEqual(
    [Nvme.CC, Nvme.CSTS, Nvme.AQA, Nvme.ASQ_LOW, Nvme.ACQ_LOW, Nvme.CMBLOC, Nvme.CRTO],
    [0x14, 0x1c, 0x24, 0x28, 0x30, 0x38, 0x68],
  );
  // QEMU: CAP 004018200f0107ff, VS 00010400.
  assert.deepEqual(
    [CapLow.MQES.get(0x0f01_07ff), CapLow.CQR.get(0x0f01_07ff), CapLow.TO.get(0x0f01_07ff)],
    [2047, 1, 15],
  );
  assert.deepEqual(
    [CapHigh.CSS_NVM.get(0x0040_1820), CapHigh.MPSMIN.get(0x0040_1820), CapHigh.MPSMAX.get(0x0040_1820)],
    [1, 0, 4],
  );
  assert.deepEqual([Vs.MJR.get(0x10400), Vs.MNR.get(0x10400), Vs.TER.get(0x10400)], [1, 4, 0]);
  assert.equal((Cc.EN.of(1) | Cc.IOSQES.of(6) | Cc.IOCQES.of(4)) >>> 0, 0x0046_0001);
  assert.equal(Cc.SHN.of(1), 0x4000);
  assert.equal(Csts.SHST.get(0x9), 2);
  assert.equal((Aqa.ASQS.of(31) | Aqa.ACQS.of(31)) >>> 0, 0x001f_001f);
  assert.deepEqual(
    [0, 1, 2].map((queue) => submissionDoorbell(queue, 0)),
    [0x1000, 0x1008, 0x1010],
  );
  assert.deepEqual(
    [0, 1].map((queue) => completionDoorbell(queue, 2)),
    [0x1010, 0x1030],
  );
});

test("command and completion words", () => {
  assert.equal((Cdw0.OPC.of(2) | Cdw0.PSDT.of(1) | Cdw0.CID.of(0xabcd)) >>> 0, 0xabcd_4002);
  assert.equal(
    CreateCompletionCdw11.PC.of(1) | CreateCompletionCdw11.IEN.of(1) | CreateCompletionCdw11.IV.of(3),
    0x0003_0003,
  );
  assert.equal(CreateSubmissionCdw11.CQID.of(7) | CreateSubmissionCdw11.PC.of(1), 0x0007_0001);
  assert.equal((IoCdw12.FUA.of(1) | IoCdw12.NLB.of(7)) >>> 0, 0x4000_0007);
  assert.equal((LogCdw10.LID.of(2) | LogCdw10.RAE.of(1) | LogCdw10.NUMDL.of(127)) >>> 0, 0x007f_8002);
  // Linux: NVME_CMD_EFFECTS_LBCC, CSE_MASK; libnvme: NVME_FID_SUPPORTED_EFFECTS_SCOPE_CTRL.
  assert.deepEqual([CommandEffects.LBCC.mask, CommandEffects.CSE.mask], [2, 0x7_0000]);
  assert.equal(FeatureEffects.FSP.of(2), 1 << 21);
  assert.deepEqual([IndependentNamespace.offsets.NSATTR, IndependentNamespace.offsets.NSTAT], [8, 14]);
  assert.deepEqual([NvmController.offsets.DMRSL, NvmController.offsets.DMSL], [4, 8]);
  // Compare failure with DNR, phase 1, command 5.
  const word = 0x850b_0005;
  assert.equal(CompletionStatus.CID.get(word), 5);
  assert.equal(CompletionStatus.P.get(word), 1);
  assert.equal((word >>> CompletionStatus.SC.offset) & 0x7ff, Status.COMPARE_FAILURE);
  assert.equal(CompletionStatus.DNR.get(word), 1);
});

test("statuses have names", () => {
  assert.equal(statusName(Status.LBA_OUT_OF_RANGE), "LBA_OUT_OF_RANGE");
  assert.equal(statusName(0x285), "COMPARE_FAILURE");
  assert.equal(statusName(0x7c1), "vendor specific status 0xc1");
  assert.equal(statusName(0x455), "type 4 status 0x55");
});

test("what is encoded is decoded", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat({ max: 65535 }), (count, id) => {
      const entry = ErrorLogEntry.from(ErrorLogEntry.bytes({ ERROR_COUNT: count, CID: id, LBA: count }));
      assert.deepEqual([entry.ERROR_COUNT, entry.CID, entry.LBA, entry.SQID], [count, id, count, 0]);
    }),
  );
});
