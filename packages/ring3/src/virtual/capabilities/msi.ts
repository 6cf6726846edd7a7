// MSI in its four layouts. PCIe 6.0, section 7.7.1. Masks and pending bits exist for the vectors that the function has.
import { Ring3Error } from "../../binary/error.ts";
import { Msi, msiLayout } from "../../pci/capabilities/msi.ts";
import type { Register } from "../../pci/register.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface MsiOptions {
  readonly at?: number;
  /** 1 (default), 2, 4, 8, 16 or 32. */
  readonly vectors?: number;
  /** Whether messages go to 64-bit addresses; on by default. */
  readonly address64?: boolean;
  /** Whether each vector has a mask and a pending bit; off by default. */
  readonly perVectorMasking?: boolean;
  /** Whether message data may have 32 bits; off by default. */
  readonly extendedData?: boolean;
}

/** Message signalled interrupts. Throws `DECLARATION_INVALID` for a number of vectors that MSI cannot name. */
export function msi(options: MsiOptions = {}): CapabilityBuilder {
  const { vectors = 1, address64 = true, perVectorMasking = false, extendedData = false } = options;
  const order = Math.log2(vectors);
  if (!Number.isInteger(order) || order < 0 || order > 5) {
    throw new Ring3Error(
      "DECLARATION_INVALID",
      `MSI has 1, 2, 4, 8, 16 or 32 vectors, not ${vectors}; MSI-X takes any number`,
    );
  }
  const { fields } = Msi.CONTROL;
  const capable = {
    MULTIPLE_MESSAGE_CAPABLE: order,
    ADDRESS_64_CAPABLE: address64 ? 1 : 0,
    PER_VECTOR_MASKING_CAPABLE: perVectorMasking ? 1 : 0,
    EXTENDED_MESSAGE_DATA_CAPABLE: extendedData ? 1 : 0,
  };
  const layout = msiLayout(
    fields.ADDRESS_64_CAPABLE.of(capable.ADDRESS_64_CAPABLE) |
      fields.PER_VECTOR_MASKING_CAPABLE.of(capable.PER_VECTOR_MASKING_CAPABLE),
  );
  const extended = address64 ? Msi.EXTENDED_MESSAGE_DATA_64 : Msi.EXTENDED_MESSAGE_DATA_32;
  const present: (Register | undefined)[] = [
    Msi.CONTROL,
    Msi.MESSAGE_ADDRESS,
    layout.messageUpperAddress,
    layout.messageData,
    extendedData ? extended : undefined,
    layout.maskBits,
    layout.pendingBits,
  ];
  return {
    group: Msi,
    // Extended data takes the two bytes behind the data in every layout.
    size: Math.max(layout.size, extendedData ? (address64 ? 16 : 12) : 0),
    ...(options.at === undefined ? {} : { at: options.at }),
    registers: present.filter((register) => register !== undefined),
    build(place) {
      place.preset(Msi.CONTROL, capable);
      place.constant(Msi.CONTROL);
      place.only(Msi.CONTROL, [
        "MSI_ENABLE",
        "MULTIPLE_MESSAGE_ENABLE",
        ...(extendedData ? (["EXTENDED_MESSAGE_DATA_ENABLE"] as const) : []),
      ]);
      const mask = vectors === 32 ? 0xffff_ffff : 2 ** vectors - 1;
      if (layout.maskBits !== undefined) place.writable(layout.maskBits, mask);
    },
  };
}
