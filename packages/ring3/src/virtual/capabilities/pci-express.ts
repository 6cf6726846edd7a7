// The PCI Express capability of an endpoint. PCIe 6.0, section 7.5.3. What an endpoint lacks (slot and root registers, link
// controls of ports) reads as zero; what belongs to the link outlives a function-level reset (section 6.6.2).
import { Ring3Error } from "../../binary/error.ts";
import { PciExpress } from "../../pci/capabilities/pci-express.ts";
import { encodeRequestSize } from "../../pci/express.ts";
import type { CapabilityBuilder, CapabilityPlace } from "../capability-builder.ts";

export interface PciExpressOptions {
  readonly at?: number;
  /** `integrated`: in the root complex, without a link. `endpoint` by default. */
  readonly type?: "endpoint" | "legacy" | "integrated";
  /** Of the capability: 2 by default. Version 1 ends with the link registers, or without a link before them. */
  readonly version?: 1 | 2;
  /** Whether software can reset the function; on by default. */
  readonly functionLevelReset?: boolean;
  /** The largest payload in bytes: 128 (default) to 4096. */
  readonly maxPayloadBytes?: number;
  /** Whether requests may have 8-bit tags; on by default. */
  readonly extendedTags?: boolean;
  /** Speed in GT/s and lanes; 2.5 and 1 by default. The link trains to just that. */
  readonly link?: { readonly speed?: 2.5 | 5 | 8 | 16 | 32; readonly width?: 1 | 2 | 4 | 8 | 12 | 16 | 32 };
  /** Which vector the capability's own interrupts would take; 0 by default. */
  readonly interruptMessage?: number;
  /** Fields of DEVICE_CAPABILITIES_2 to set, such as `LTR_MECHANISM_SUPPORTED`. */
  readonly deviceCapabilities2?: Readonly<Partial<Record<DeviceCapability2, number>>>;
}

type DeviceCapability2 = keyof (typeof PciExpress)["DEVICE_CAPABILITIES_2"]["fields"];

const portTypes = { endpoint: 0, legacy: 1, integrated: 9 } as const;
const speeds = [2.5, 5, 8, 16, 32] as const;

/** PCI Express; with it config space has 4096 bytes. Throws `DECLARATION_INVALID` or `RangeError` for odd options. */
export function pcie(options: PciExpressOptions = {}): CapabilityBuilder {
  const { type = "endpoint", version = 2 } = options;
  const linked = type !== "integrated";
  const maxPayload = encodeRequestSize(options.maxPayloadBytes ?? 128);
  const speed = speeds.indexOf(options.link?.speed ?? 2.5) + 1;
  if (speed === 0) {
    throw new Ring3Error("DECLARATION_INVALID", `a link has 2.5, 5, 8, 16 or 32 GT/s, not ${options.link?.speed}`);
  }
  return {
    group: PciExpress,
    size: version === 2 ? 0x3c : linked ? 0x14 : 0x0c,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(PciExpress.CAPABILITIES, {
        CAPABILITY_VERSION: version,
        DEVICE_PORT_TYPE: portTypes[type],
        INTERRUPT_MESSAGE_NUMBER: options.interruptMessage ?? 0,
      });
      place.constant(PciExpress.CAPABILITIES);
      buildDevice(place, options, maxPayload);
      if (linked) buildLink(place, speed, options.link?.width ?? 1);
      else if (version === 2) buildNoLink(place);
      if (version === 2) buildVersion2(place, options, linked, speed);
    },
  };
}

function buildDevice(place: CapabilityPlace, options: PciExpressOptions, maxPayload: number): void {
  const { DEVICE_CAPABILITIES, DEVICE_CONTROL, DEVICE_STATUS } = PciExpress;
  const reset = options.functionLevelReset ?? true;
  const extendedTags = options.extendedTags ?? true;
  place.preset(DEVICE_CAPABILITIES, {
    MAX_PAYLOAD_SIZE_SUPPORTED: maxPayload,
    EXTENDED_TAG_FIELD_SUPPORTED: extendedTags ? 1 : 0,
    ROLE_BASED_ERROR_REPORTING: 1,
    FUNCTION_LEVEL_RESET_CAPABILITY: reset ? 1 : 0,
  });
  place.constant(DEVICE_CAPABILITIES);
  place.keptByFunctionReset(DEVICE_CAPABILITIES, [
    "CAPTURED_SLOT_POWER_LIMIT_VALUE",
    "CAPTURED_SLOT_POWER_LIMIT_SCALE",
  ]);
  place.only(DEVICE_CONTROL, [
    "CORRECTABLE_ERROR_REPORTING_ENABLE",
    "NON_FATAL_ERROR_REPORTING_ENABLE",
    "FATAL_ERROR_REPORTING_ENABLE",
    "UNSUPPORTED_REQUEST_REPORTING_ENABLE",
    "ENABLE_RELAXED_ORDERING",
    "MAX_PAYLOAD_SIZE",
    "ENABLE_NO_SNOOP",
    "MAX_READ_REQUEST_SIZE",
    ...(extendedTags ? (["EXTENDED_TAG_FIELD_ENABLE"] as const) : []),
  ]);
  place.keptByFunctionReset(DEVICE_CONTROL, ["MAX_PAYLOAD_SIZE"]);
  place.only(DEVICE_STATUS, [
    "CORRECTABLE_ERROR_DETECTED",
    "NON_FATAL_ERROR_DETECTED",
    "FATAL_ERROR_DETECTED",
    "UNSUPPORTED_REQUEST_DETECTED",
  ]);
  // The bit that asks for the reset is not stored: it reads as 0, and what it does shows only here.
  const { INITIATE_FUNCTION_LEVEL_RESET } = DEVICE_CONTROL.fields;
  if (!reset) return;
  place.onWrite(DEVICE_CONTROL, ({ raw }) => {
    if (INITIATE_FUNCTION_LEVEL_RESET.test(raw)) place.listener.flr?.("flr");
  });
}

function buildLink(place: CapabilityPlace, speed: number, width: number): void {
  const { LINK_CAPABILITIES, LINK_CONTROL, LINK_STATUS } = PciExpress;
  place.preset(LINK_CAPABILITIES, { MAX_LINK_SPEED: speed, MAXIMUM_LINK_WIDTH: width, ASPM_OPTIONALITY_COMPLIANCE: 1 });
  place.constant(LINK_CAPABILITIES);
  const kept = [
    "ASPM_CONTROL",
    "READ_COMPLETION_BOUNDARY",
    "COMMON_CLOCK_CONFIGURATION",
    "EXTENDED_SYNCH",
    "HARDWARE_AUTONOMOUS_WIDTH_DISABLE",
  ] as const;
  place.only(LINK_CONTROL, kept);
  place.keptByFunctionReset(LINK_CONTROL, kept);
  place.preset(LINK_STATUS, { CURRENT_LINK_SPEED: speed, NEGOTIATED_LINK_WIDTH: width, SLOT_CLOCK_CONFIGURATION: 1 });
  place.only(LINK_STATUS, []);
  place.keptByFunctionReset(LINK_STATUS, ["CURRENT_LINK_SPEED", "NEGOTIATED_LINK_WIDTH"]);
}

function buildNoLink(place: CapabilityPlace): void {
  place.only(PciExpress.LINK_CONTROL, []);
  place.only(PciExpress.LINK_STATUS, []);
}

function buildVersion2(place: CapabilityPlace, options: PciExpressOptions, linked: boolean, speed: number): void {
  const { DEVICE_CAPABILITIES_2, DEVICE_CONTROL_2, LINK_CAPABILITIES_2, LINK_CONTROL_2, LINK_STATUS_2 } = PciExpress;
  for (const register of [PciExpress.SLOT_CONTROL, PciExpress.ROOT_CONTROL]) place.writable(register, 0);
  for (const register of [PciExpress.SLOT_STATUS, PciExpress.ROOT_STATUS]) place.writable(register, 0);
  // A software function completes or fails at once, so it need not time out; software may ask for that all the same.
  const capable: Partial<Record<DeviceCapability2, number>> = {
    COMPLETION_TIMEOUT_DISABLE_SUPPORTED: 1,
    ...options.deviceCapabilities2,
  };
  place.preset(DEVICE_CAPABILITIES_2, capable);
  place.constant(DEVICE_CAPABILITIES_2);
  const on = (name: DeviceCapability2): boolean => (capable[name] ?? 0) !== 0;
  place.only(DEVICE_CONTROL_2, [
    "COMPLETION_TIMEOUT_DISABLE",
    "IDO_REQUEST_ENABLE",
    "IDO_COMPLETION_ENABLE",
    ...(on("COMPLETION_TIMEOUT_RANGES_SUPPORTED") ? (["COMPLETION_TIMEOUT_VALUE"] as const) : []),
    ...(on("LTR_MECHANISM_SUPPORTED") ? (["LTR_MECHANISM_ENABLE"] as const) : []),
    ...(on("TEN_BIT_TAG_REQUESTER_SUPPORTED") ? (["TEN_BIT_TAG_REQUESTER_ENABLE"] as const) : []),
    ...(on("OBFF_SUPPORTED") ? (["OBFF_ENABLE"] as const) : []),
    "ATOMIC_OP_REQUESTER_ENABLE",
  ]);
  if (linked) {
    place.preset(LINK_CAPABILITIES_2, { SUPPORTED_LINK_SPEEDS_VECTOR: 2 ** speed - 1 });
    place.preset(LINK_CONTROL_2, { TARGET_LINK_SPEED: speed });
    place.only(LINK_CONTROL_2, ["TARGET_LINK_SPEED", "HARDWARE_AUTONOMOUS_SPEED_DISABLE"]);
  } else {
    place.only(LINK_CONTROL_2, []);
  }
  place.constant(LINK_CAPABILITIES_2);
  place.only(LINK_STATUS_2, []);
}
