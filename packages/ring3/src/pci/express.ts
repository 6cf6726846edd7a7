// What the numbers of the PCI Express capability mean: kinds of port, payload sizes, links. PCIe 6.0, section 7.5.3.
import { PciExpress } from "./capabilities/pci-express.ts";
import type { ConfigSpace } from "./config-space.ts";

const portTypes: Readonly<Record<number, string>> = {
  0x0: "Endpoint",
  0x1: "Legacy Endpoint",
  0x4: "Root Port",
  0x5: "Upstream Port",
  0x6: "Downstream Port",
  0x7: "PCI Express to PCI/PCI-X Bridge",
  0x8: "PCI/PCI-X to PCI Express Bridge",
  0x9: "Root Complex Integrated Endpoint",
  0xa: "Root Complex Event Collector",
};

/** Name for a value of DEVICE_PORT_TYPE; `undefined` for a reserved one. */
export function portTypeName(type: number): string | undefined {
  return portTypes[type];
}

/** Bytes for a value of MAX_PAYLOAD_SIZE, its SUPPORTED, or MAX_READ_REQUEST_SIZE: 128 to 4096, `undefined` for 6 and 7. */
export function requestSizeBytes(encoded: number): number | undefined {
  return encoded >= 0 && encoded <= 5 ? 128 << encoded : undefined;
}

/** The encoding of a size in bytes; throws `RangeError` unless it is 128, 256 ... 4096. */
export function encodeRequestSize(bytes: number): number {
  const encoded = Math.log2(bytes / 128);
  if (!Number.isInteger(encoded) || encoded < 0 || encoded > 5) {
    throw new RangeError(`${bytes} bytes is no request size; take 128, 256, 512, 1024, 2048 or 4096`);
  }
  return encoded;
}

const speeds = [2.5, 5, 8, 16, 32, 64] as const;

/** GT/s for a value of MAX_LINK_SPEED, CURRENT_LINK_SPEED or TARGET_LINK_SPEED; `undefined` for one that is not defined. */
export function linkSpeed(encoded: number): number | undefined {
  return speeds[encoded - 1];
}

/** A link as it is and as it could be; speeds in GT/s, widths in lanes, `undefined` where the register says nothing. */
export interface Link {
  readonly speed: number | undefined;
  readonly width: number | undefined;
  readonly maxSpeed: number | undefined;
  readonly maxWidth: number | undefined;
}

/** What a driver asks of the PCI Express capability. */
export interface ExpressDescription {
  readonly version: number;
  readonly portType: string | undefined;
  readonly functionLevelReset: boolean;
  readonly maxPayloadBytes: number | undefined;
  readonly maxPayloadSupportedBytes: number | undefined;
  readonly maxReadRequestBytes: number | undefined;
  /** `undefined` for functions without a link: those integrated in the root complex. */
  readonly link: Link | undefined;
}

/** Reads the capability; `undefined` without it, or where it is cut off. Three to five reads. */
export function readExpress(config: ConfigSpace): ExpressDescription | undefined {
  const entry = config.find(PciExpress);
  if (entry === undefined || !config.has(PciExpress.DEVICE_STATUS, entry)) return undefined;
  const { CAPABILITY_VERSION, DEVICE_PORT_TYPE } = config.read(PciExpress.CAPABILITIES, entry);
  const capabilities = config.read(PciExpress.DEVICE_CAPABILITIES, entry);
  const control = config.read(PciExpress.DEVICE_CONTROL, entry);
  const linked = DEVICE_PORT_TYPE !== 0x9 && DEVICE_PORT_TYPE !== 0xa && config.has(PciExpress.LINK_STATUS, entry);
  return {
    version: CAPABILITY_VERSION,
    portType: portTypeName(DEVICE_PORT_TYPE),
    functionLevelReset: capabilities.FUNCTION_LEVEL_RESET_CAPABILITY === 1,
    maxPayloadBytes: requestSizeBytes(control.MAX_PAYLOAD_SIZE),
    maxPayloadSupportedBytes: requestSizeBytes(capabilities.MAX_PAYLOAD_SIZE_SUPPORTED),
    maxReadRequestBytes: requestSizeBytes(control.MAX_READ_REQUEST_SIZE),
    link: linked ? readLink(config) : undefined,
  };
}

function readLink(config: ConfigSpace): Link {
  const capabilities = config.read(PciExpress.LINK_CAPABILITIES);
  const status = config.read(PciExpress.LINK_STATUS);
  return {
    speed: linkSpeed(status.CURRENT_LINK_SPEED),
    width: status.NEGOTIATED_LINK_WIDTH || undefined,
    maxSpeed: linkSpeed(capabilities.MAX_LINK_SPEED),
    maxWidth: capabilities.MAXIMUM_LINK_WIDTH || undefined,
  };
}
