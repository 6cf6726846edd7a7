// What the identify command says: NVMe base 2.0, section 5.17; NVM command set 1.0, section 4.1.5. What is not declared
// here is absent: no firmware update, format, security, namespace management, self-test, metadata or protection.
import { ALL_NAMESPACES, Cns, CommandSet, IdentifyCdw10, IdentifyCdw11 } from "../../specs/nvme/commands.ts";
import { Status } from "../../specs/nvme/status.ts";
import {
  IdentifyController,
  NamespaceList,
  NvmController,
  Oacs,
  Oncs,
  PowerState,
  Sgls,
  Vwc,
} from "../../specs/nvme/structs.ts";
import { EVENT_REQUESTS_MAX } from "./events.ts";
import { OFFERED_EVENTS, Temperature } from "./features.ts";
import { type DeviceNamespace, uniqueIdOf } from "./namespace.ts";
import { NAMESPACES_MAX, type NvmeSettings } from "./options.ts";

/** NVMe 2.0.0, in the layout of VS. */
export const NVME_VERSION = 0x0002_0000;
/** Firmware revision: the version of the device model. */
export const FIRMWARE_REVISION = "1.0";
/** Entries of the error log. */
export const ERROR_LOG_ENTRIES = 64;
/** A locally administered organization: the device belongs to no vendor. */
const ORGANIZATION: Uint8Array = Uint8Array.of(0x00, 0x33, 0x72);
const PAGE = 4096;

/** Values of single fields, by their figure's names (base figure 275). */
const ABORTS_AT_ONCE = 4;
const FIRMWARE_ONE_READ_ONLY_SLOT = 0x03;
/** Commands supported log, extended get log page, all supported log pages. */
const LOG_ATTRIBUTES = 0x02 | 0x04 | 0x20;
const ENTRY_SIZES = { SQES: 0x66, CQES: 0x44 } as const;
/** A flush of all namespaces is understood. */
const FLUSH_ALL = 0x06;
/** Bits of SGLS: a list may be longer than the data. */
const SGL_MAY_BE_LONGER = 0x4_0000;
const IO_CONTROLLER = 1;
const NVM_SUBSYSTEM_IS_STORAGE = 0x01;

/** The data of an identify command, or the status with which it fails. */
export function identifyData(
  words: { readonly nsid: number; readonly cdw10: number; readonly cdw11: number },
  settings: NvmeSettings,
  subsystem: { readonly vendorId: number; readonly id: number },
  namespaces: readonly (DeviceNamespace | undefined)[],
): Uint8Array | number {
  const { nsid } = words;
  const cns = IdentifyCdw10.CNS.get(words.cdw10);
  const commandSet = IdentifyCdw11.CSI.get(words.cdw11);
  const named = namespaces[nsid];
  const valid = nsid >= 1 && nsid <= NAMESPACES_MAX;
  switch (cns) {
    case Cns.NAMESPACE:
      return valid ? (named?.identify() ?? new Uint8Array(PAGE)) : Status.INVALID_NAMESPACE;
    case Cns.CONTROLLER:
      return controllerData(settings, subsystem, namespaces);
    case Cns.ACTIVE_NAMESPACES:
      return activeList(nsid, namespaces);
    case Cns.NAMESPACE_DESCRIPTORS:
      return named?.descriptors() ?? Status.INVALID_NAMESPACE;
    case Cns.INDEPENDENT_NAMESPACE:
      return valid ? (named?.identifyIndependent() ?? new Uint8Array(PAGE)) : Status.INVALID_NAMESPACE;
    case Cns.IO_COMMAND_SETS:
      return commandSets();
  }
  if (commandSet !== CommandSet.NVM) return Status.INVALID_FIELD;
  switch (cns) {
    case Cns.IO_COMMAND_SET_NAMESPACE:
      // No storage tags, no extended formats: nothing to say.
      return valid ? new Uint8Array(PAGE) : Status.INVALID_NAMESPACE;
    case Cns.IO_COMMAND_SET_CONTROLLER:
      return NvmController.bytes({});
    case Cns.IO_COMMAND_SET_ACTIVE_NAMESPACES:
      return activeList(nsid, namespaces);
    default:
      return Status.INVALID_FIELD;
  }
}

function controllerData(
  settings: NvmeSettings,
  subsystem: { readonly vendorId: number; readonly id: number },
  namespaces: readonly (DeviceNamespace | undefined)[],
): Uint8Array {
  const capacity = namespaces.reduce((sum, entry) => sum + BigInt(entry?.backing.sizeBytes ?? 0), 0n);
  return IdentifyController.bytes({
    VID: settings.vendorId,
    SSVID: subsystem.vendorId,
    SN: settings.serialNumber,
    MN: settings.modelNumber,
    FR: FIRMWARE_REVISION,
    RAB: 6,
    IEEE: ORGANIZATION,
    MDTS: Math.log2(settings.maxTransferBytes / PAGE),
    CNTLID: 0,
    VER: NVME_VERSION,
    OAES: OFFERED_EVENTS,
    CNTRLTYPE: IO_CONTROLLER,
    NVMSR: NVM_SUBSYSTEM_IS_STORAGE,
    OACS: settings.shadowDoorbells ? Oacs.DOORBELL_BUFFER.mask : 0,
    ACL: ABORTS_AT_ONCE - 1,
    AERL: EVENT_REQUESTS_MAX - 1,
    FRMW: FIRMWARE_ONE_READ_ONLY_SLOT,
    LPA: LOG_ATTRIBUTES,
    ELPE: ERROR_LOG_ENTRIES - 1,
    NPSS: 0,
    WCTEMP: Temperature.WARNING,
    CCTEMP: Temperature.CRITICAL,
    TNVMCAP: capacity,
    ...ENTRY_SIZES,
    NN: NAMESPACES_MAX,
    MNAN: NAMESPACES_MAX,
    ONCS:
      Oncs.COMPARE.mask |
      Oncs.DATASET_MANAGEMENT.mask |
      Oncs.WRITE_ZEROES.mask |
      Oncs.SAVE_FEATURES.mask |
      Oncs.TIMESTAMP.mask |
      Oncs.VERIFY.mask,
    VWC: FLUSH_ALL | (settings.writeCache ? Vwc.PRESENT.mask : 0),
    SGLS: Sgls.SUPPORT.of(1) | Sgls.BIT_BUCKET.mask | SGL_MAY_BE_LONGER,
    SUBNQN: `nqn.2014-08.org.nvmexpress:uuid:${uuidText(uniqueIdOf(settings.serialNumber, 0))}`,
    PSD: PowerState.bytes({ MP: 100 }),
  });
}

/** Ids above `after`, ascending (base section 5.17.2.2). */
function activeList(after: number, namespaces: readonly (DeviceNamespace | undefined)[]): Uint8Array | number {
  if (after >= ALL_NAMESPACES - 1) return Status.INVALID_NAMESPACE;
  const ids = namespaces.flatMap((entry) => (entry !== undefined && entry.id > after ? [entry.id] : []));
  return NamespaceList.bytes({ NSID: ids });
}

/** One combination (base section 5.17.2.21): the NVM command set alone. */
function commandSets(): Uint8Array {
  const bytes = new Uint8Array(PAGE);
  bytes[0] = 1 << CommandSet.NVM;
  return bytes;
}

function uuidText(bytes: Uint8Array): string {
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
