// Who a function says it is, from its header; where the subsystem ids are depends on the header's type.
import { SubsystemId } from "./capabilities/subsystem-id.ts";
import type { ConfigSpace } from "./config-space.ts";
import type { FunctionIdentity } from "./function.ts";
import { Header, Header0, Header2 } from "./header.ts";

/** What config space says of a {@link FunctionIdentity}, and the kind of its header. */
export interface Identification
  extends Pick<
    FunctionIdentity,
    "vendorId" | "deviceId" | "subsystemVendorId" | "subsystemId" | "revision" | "classCode"
  > {
  /** 0 endpoint, 1 bridge, 2 CardBus bridge; others are unknown. */
  readonly headerType: number;
  readonly multiFunction: boolean;
}

/** Reads the ids. Those of the subsystem are 0 where the function has none. */
export function identify(config: ConfigSpace): Identification {
  const { LAYOUT, MULTI_FUNCTION } = config.read(Header.HEADER_TYPE);
  let subsystemVendorId = 0;
  let subsystemId = 0;
  if (LAYOUT === 0) {
    subsystemVendorId = config.readRaw(Header0.SUBSYSTEM_VENDOR_ID);
    subsystemId = config.readRaw(Header0.SUBSYSTEM_ID);
  } else if (LAYOUT === 1 && config.has(SubsystemId.SUBSYSTEM_ID)) {
    subsystemVendorId = config.readRaw(SubsystemId.SUBSYSTEM_VENDOR_ID);
    subsystemId = config.readRaw(SubsystemId.SUBSYSTEM_ID);
  } else if (LAYOUT === 2 && config.has(Header2.SUBSYSTEM_ID)) {
    subsystemVendorId = config.readRaw(Header2.SUBSYSTEM_VENDOR_ID);
    subsystemId = config.readRaw(Header2.SUBSYSTEM_ID);
  }
  return {
    vendorId: config.readRaw(Header.VENDOR_ID),
    deviceId: config.readRaw(Header.DEVICE_ID),
    subsystemVendorId,
    subsystemId,
    revision: config.readRaw(Header.REVISION_ID),
    classCode: config.read32(0x08) >>> 8,
    headerType: LAYOUT,
    multiFunction: MULTI_FUNCTION === 1,
  };
}
