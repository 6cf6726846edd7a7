// PCIe 6.0, section 7.7.1. Message data, mask and pending bits lie further back where the function takes 64-bit addresses;
// mask and pending exist only with per-vector masking: four layouts in all.
import type { ConfigSpace } from "../config-space.ts";
import { capability, type Declared } from "../register.ts";

const registers = {
  CONTROL: {
    at: [0x02, 16],
    MSI_ENABLE: ["RW", 0],
    MULTIPLE_MESSAGE_CAPABLE: ["RO", 1, 3],
    MULTIPLE_MESSAGE_ENABLE: ["RW", 4, 3],
    ADDRESS_64_CAPABLE: ["RO", 7],
    PER_VECTOR_MASKING_CAPABLE: ["RO", 8],
    EXTENDED_MESSAGE_DATA_CAPABLE: ["RO", 9],
    EXTENDED_MESSAGE_DATA_ENABLE: ["RW", 10],
  },
  MESSAGE_ADDRESS: { at: [0x04, 32], ADDRESS: ["RW", 2, 30] },
  MESSAGE_DATA_32: { at: [0x08, 16], VALUE: ["RW", 0, 16] },
  EXTENDED_MESSAGE_DATA_32: { at: [0x0a, 16], VALUE: ["RW", 0, 16] },
  MASK_BITS_32: { at: [0x0c, 32], VALUE: ["RW", 0, 32] },
  PENDING_BITS_32: { at: [0x10, 32], VALUE: ["RO", 0, 32] },
  MESSAGE_UPPER_ADDRESS: { at: [0x08, 32], VALUE: ["RW", 0, 32] },
  MESSAGE_DATA_64: { at: [0x0c, 16], VALUE: ["RW", 0, 16] },
  EXTENDED_MESSAGE_DATA_64: { at: [0x0e, 16], VALUE: ["RW", 0, 16] },
  MASK_BITS_64: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
  PENDING_BITS_64: { at: [0x14, 32], VALUE: ["RO", 0, 32] },
} as const;

/** Message signalled interrupts. Of the registers that end in 32 and 64 those that {@link msiLayout} names are there. */
export const Msi: Declared<typeof registers> = capability("MSI", 0x05, registers);

type Word = (typeof Msi)["MESSAGE_DATA_32"];
type Dword = (typeof Msi)["MASK_BITS_32"];
type ReadOnlyDword = (typeof Msi)["PENDING_BITS_32"];

/** Which registers an MSI capability has. */
export interface MsiLayout {
  readonly address64: boolean;
  readonly perVectorMasking: boolean;
  readonly messageUpperAddress: Dword | undefined;
  readonly messageData: Word;
  readonly maskBits: Dword | undefined;
  readonly pendingBits: ReadOnlyDword | undefined;
  /** Size of the capability in bytes. */
  readonly size: 10 | 14 | 20 | 24;
}

/** The layout for a value of {@link Msi} CONTROL. */
export function msiLayout(control: number): MsiLayout {
  const { ADDRESS_64_CAPABLE, PER_VECTOR_MASKING_CAPABLE } = Msi.CONTROL.fields;
  const address64 = ADDRESS_64_CAPABLE.test(control);
  const perVectorMasking = PER_VECTOR_MASKING_CAPABLE.test(control);
  const mask = address64 ? Msi.MASK_BITS_64 : Msi.MASK_BITS_32;
  const pending = address64 ? Msi.PENDING_BITS_64 : Msi.PENDING_BITS_32;
  return {
    address64,
    perVectorMasking,
    messageUpperAddress: address64 ? Msi.MESSAGE_UPPER_ADDRESS : undefined,
    messageData: address64 ? Msi.MESSAGE_DATA_64 : Msi.MESSAGE_DATA_32,
    maskBits: perVectorMasking ? mask : undefined,
    pendingBits: perVectorMasking ? pending : undefined,
    size: perVectorMasking ? (address64 ? 24 : 20) : address64 ? 14 : 10,
  };
}

/** Vectors that the function can use: 1, 2, 4 ... 32; 0 without the capability. Reserved encodings count as 32. */
export function msiVectors(config: ConfigSpace): number {
  if (!config.has(Msi.CONTROL)) return 0;
  return 2 ** Math.min(config.read(Msi.CONTROL).MULTIPLE_MESSAGE_CAPABLE, 5);
}
