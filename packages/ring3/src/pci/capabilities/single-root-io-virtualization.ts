// PCIe 6.0, section 9.3.3: virtual functions. Where they sit follows from the offset and stride, which may change with
// NUM_VFS and ARI_CAPABLE_HIERARCHY.
import { PciAddress } from "../address.ts";
import { type BarDescription, decodeBars } from "../bar.ts";
import type { ConfigSpace } from "../config-space.ts";
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  CAPABILITIES: {
    at: [0x04, 32],
    VF_MIGRATION_CAPABLE: ["RO", 0],
    ARI_CAPABLE_HIERARCHY_PRESERVED: ["RO", 1],
    VF_10_BIT_TAG_REQUESTER_SUPPORTED: ["HwInit", 2],
    VF_14_BIT_TAG_REQUESTER_SUPPORTED: ["HwInit", 3],
    VF_MIGRATION_INTERRUPT_MESSAGE_NUMBER: ["RO", 21, 11],
  },
  CONTROL: {
    at: [0x08, 16],
    VF_ENABLE: ["RW", 0],
    VF_MIGRATION_ENABLE: ["RW", 1],
    VF_MIGRATION_INTERRUPT_ENABLE: ["RW", 2],
    VF_MSE: ["RW", 3],
    ARI_CAPABLE_HIERARCHY: ["RW", 4],
    VF_10_BIT_TAG_REQUESTER_ENABLE: ["RW", 5],
    VF_14_BIT_TAG_REQUESTER_ENABLE: ["RW", 6],
  },
  STATUS: { at: [0x0a, 16], VF_MIGRATION_STATUS: ["RW1C", 0] },
  INITIAL_VFS: { at: [0x0c, 16], VALUE: ["HwInit", 0, 16] },
  TOTAL_VFS: { at: [0x0e, 16], VALUE: ["HwInit", 0, 16] },
  NUM_VFS: { at: [0x10, 16], VALUE: ["RW", 0, 16] },
  FUNCTION_DEPENDENCY_LINK: { at: [0x12, 8], VALUE: ["HwInit", 0, 8] },
  FIRST_VF_OFFSET: { at: [0x14, 16], VALUE: ["RO", 0, 16] },
  VF_STRIDE: { at: [0x16, 16], VALUE: ["RO", 0, 16] },
  VF_DEVICE_ID: { at: [0x1a, 16], VALUE: ["RO", 0, 16] },
  SUPPORTED_PAGE_SIZES: { at: [0x1c, 32], VALUE: ["RO", 0, 32, 0x553] },
  SYSTEM_PAGE_SIZE: { at: [0x20, 32], VALUE: ["RW", 0, 32, 1] },
  VF_BAR0: { at: [0x24, 32], VALUE: ["RW", 0, 32] },
  VF_BAR1: { at: [0x28, 32], VALUE: ["RW", 0, 32] },
  VF_BAR2: { at: [0x2c, 32], VALUE: ["RW", 0, 32] },
  VF_BAR3: { at: [0x30, 32], VALUE: ["RW", 0, 32] },
  VF_BAR4: { at: [0x34, 32], VALUE: ["RW", 0, 32] },
  VF_BAR5: { at: [0x38, 32], VALUE: ["RW", 0, 32] },
  VF_MIGRATION_STATE_ARRAY_OFFSET: { at: [0x3c, 32], BIR: ["RO", 0, 3], OFFSET: ["RO", 3, 29] },
} as const;

/** Single root I/O virtualization. */
export const SingleRootIoVirtualization: Declared<typeof registers> = extendedCapability("SR-IOV", 0x10, registers);

/** The VFs of a physical function. */
export interface VirtualFunctions {
  readonly enabled: boolean;
  readonly total: number;
  /** How many are there while enabled. */
  readonly count: number;
  readonly deviceId: number;
  readonly firstOffset: number;
  readonly stride: number;
  readonly bars: readonly BarDescription[];
}

/** Reads what the physical function says of its VFs; `undefined` without the capability. */
export function readVirtualFunctions(config: ConfigSpace): VirtualFunctions | undefined {
  const sriov = SingleRootIoVirtualization;
  const entry = config.find(sriov);
  if (entry === undefined || !config.has(sriov.VF_MIGRATION_STATE_ARRAY_OFFSET, entry)) return undefined;
  const { VF_BAR0, VF_BAR1, VF_BAR2, VF_BAR3, VF_BAR4, VF_BAR5 } = sriov;
  return {
    enabled: config.read(sriov.CONTROL, entry).VF_ENABLE === 1,
    total: config.readRaw(sriov.TOTAL_VFS, entry),
    count: config.readRaw(sriov.NUM_VFS, entry),
    deviceId: config.readRaw(sriov.VF_DEVICE_ID, entry),
    firstOffset: config.readRaw(sriov.FIRST_VF_OFFSET, entry),
    stride: config.readRaw(sriov.VF_STRIDE, entry),
    bars: decodeBars([VF_BAR0, VF_BAR1, VF_BAR2, VF_BAR3, VF_BAR4, VF_BAR5].map((bar) => config.readRaw(bar, entry))),
  };
}

/** Address of VF `number` (from 0 on) of the physical function at `physical`. Throws `ADDRESS_INVALID` past bus 255. */
export function virtualFunctionAddress(
  physical: PciAddress,
  functions: Pick<VirtualFunctions, "firstOffset" | "stride">,
  number: number,
): PciAddress {
  const routingId = physical.routingId + functions.firstOffset + number * functions.stride;
  return PciAddress.fromRoutingId(physical.domain, routingId);
}
