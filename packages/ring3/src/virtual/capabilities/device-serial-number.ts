// A 64-bit number in the form of an EUI-64. PCIe 6.0, section 7.9.3.
import { Ring3Error } from "../../binary/error.ts";
import { DeviceSerialNumber } from "../../pci/capabilities/device-serial-number.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface DeviceSerialNumberOptions {
  readonly at?: number;
  /** As `readSerialNumber` shows it, most significant byte first: `00-15-17-ff-ff-aa-bb-cc`. */
  readonly serialNumber: string;
}

/** Device serial number. Throws `DECLARATION_INVALID` where the number is not eight bytes in hexadecimal digits. */
export function dsn(options: DeviceSerialNumberOptions): CapabilityBuilder {
  const digits = options.serialNumber.replaceAll(/[-:]/g, "");
  if (!/^[0-9a-f]{16}$/i.test(digits)) {
    throw new Ring3Error(
      "DECLARATION_INVALID",
      `the serial number ${JSON.stringify(options.serialNumber)} is not of the form 00-15-17-ff-ff-aa-bb-cc`,
    );
  }
  return {
    group: DeviceSerialNumber,
    size: 12,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      const { SERIAL_NUMBER_LOWER, SERIAL_NUMBER_UPPER } = DeviceSerialNumber;
      place.preset(SERIAL_NUMBER_LOWER, { VALUE: Number.parseInt(digits.slice(8), 16) });
      place.preset(SERIAL_NUMBER_UPPER, { VALUE: Number.parseInt(digits.slice(0, 8), 16) });
      place.constant(SERIAL_NUMBER_LOWER);
      place.constant(SERIAL_NUMBER_UPPER);
    },
  };
}
