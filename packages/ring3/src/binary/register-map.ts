// The registers of a BAR by place, for whoever sees accesses and wants names: traces, fault plans. A map is plain data that
// the specs give for their device families, and that a driver's author gives for another.
import type { Field } from "./field.ts";

/** A register by place. */
export interface PlacedRegister {
  readonly name: string;
  /** In bytes, from the start of the BAR. */
  readonly offset: number;
  /** Size in bytes. */
  readonly width: 1 | 2 | 4 | 8;
  /** Fields of a register of up to 32 bits; none for a register that is one number. */
  readonly fields?: Readonly<Record<string, Field>>;
}

/** The registers of one BAR, in any order, that do not overlap. */
export type RegisterMap = readonly PlacedRegister[];

/** The registers of a device by BAR number. */
export interface DeviceRegisters {
  /** Of the device family: `nvme`. */
  readonly name: string;
  readonly bars: Readonly<Record<number, RegisterMap>>;
}
