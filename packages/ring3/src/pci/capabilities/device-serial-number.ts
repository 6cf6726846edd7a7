// PCIe 6.0, section 7.9.3: a 64-bit number that is unique to the device, in the form of an EUI-64.
import type { ConfigSpace } from "../config-space.ts";
import { type Declared, extendedCapability } from "../register.ts";

const registers = {
  SERIAL_NUMBER_LOWER: { at: [0x04, 32], VALUE: ["RO", 0, 32] },
  SERIAL_NUMBER_UPPER: { at: [0x08, 32], VALUE: ["RO", 0, 32] },
} as const;

/** Device serial number. */
export const DeviceSerialNumber: Declared<typeof registers> = extendedCapability("DSN", 0x03, registers);

/** The serial number, most significant byte first: `00-15-17-ff-ff-aa-bb-cc`; `undefined` without the capability. */
export function readSerialNumber(config: ConfigSpace): string | undefined {
  if (!config.has(DeviceSerialNumber.SERIAL_NUMBER_UPPER)) return undefined;
  const lower = config.readRaw(DeviceSerialNumber.SERIAL_NUMBER_LOWER);
  const upper = config.readRaw(DeviceSerialNumber.SERIAL_NUMBER_UPPER);
  const digits = [upper, lower].map((dword) => dword.toString(16).padStart(8, "0")).join("");
  return digits.replace(/..(?!$)/g, "$&-");
}
