// Fields whose number stands for something that people think in: bytes, power states, GT/s. Both spellings are taken.
import { PciExpress } from "../capabilities/pci-express.ts";
import { PowerManagement } from "../capabilities/power-management.ts";
import { linkSpeed, requestSizeBytes } from "../express.ts";
import type { Register } from "../register.ts";

/** What the values of a field mean, by their number. */
type Meaning = (value: number) => string | undefined;

const bytes: Meaning = (value) => requestSizeBytes(value)?.toString();
const speed: Meaning = (value) => {
  const rate = linkSpeed(value);
  return rate === undefined ? undefined : `${rate}GT/s`;
};
const oneOf =
  (...names: readonly string[]): Meaning =>
  (value) =>
    names[value];

const meanings: readonly (readonly [register: Register, field: string, meaning: Meaning])[] = [
  [PowerManagement.PMCSR, "POWER_STATE", oneOf("D0", "D1", "D2", "D3hot")],
  [PciExpress.DEVICE_CAPABILITIES, "MAX_PAYLOAD_SIZE_SUPPORTED", bytes],
  [PciExpress.DEVICE_CONTROL, "MAX_PAYLOAD_SIZE", bytes],
  [PciExpress.DEVICE_CONTROL, "MAX_READ_REQUEST_SIZE", bytes],
  [PciExpress.LINK_CONTROL, "ASPM_CONTROL", oneOf("off", "L0s", "L1", "L0s+L1")],
  [PciExpress.LINK_CAPABILITIES, "MAX_LINK_SPEED", speed],
  [PciExpress.LINK_STATUS, "CURRENT_LINK_SPEED", speed],
  [PciExpress.LINK_CONTROL_2, "TARGET_LINK_SPEED", speed],
];

function meaningOf(register: Register, field: string): Meaning | undefined {
  return meanings.find(([declared, name]) => declared === register && name === field)?.[2];
}

/** What `value` of the field means (`4096`, `D3hot`, `8GT/s`); `undefined` where the number is all there is. */
export function fieldMeaning(register: Register, field: string, value: number): string | undefined {
  return meaningOf(register, field)?.(value);
}

/** The number of the field that `text` means: a meaning, or the number itself (decimal or 0x). */
export function fieldNumber(register: Register, field: string, text: string): number | undefined {
  const meaning = meaningOf(register, field);
  if (meaning !== undefined) {
    const width = register.fields[field]?.width ?? 0;
    const wanted = text.toLowerCase();
    for (let value = 0; value < 2 ** width; value++) if (meaning(value)?.toLowerCase() === wanted) return value;
  }
  return /^(?:0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : undefined;
}

/** The meanings of a field that has some, for an error message. */
export function fieldMeanings(register: Register, field: string): readonly string[] {
  const meaning = meaningOf(register, field);
  if (meaning === undefined) return [];
  const width = register.fields[field]?.width ?? 0;
  return Array.from({ length: 2 ** width }, (_, value) => meaning(value)).filter((text) => text !== undefined);
}
