// What the 82574 has besides the registers of specs/gigabit: 82574 datasheet 3.4, section 10.2. BAR0 is 128 KiB.
import { type Fields, fields } from "../../binary/layout.ts";

/** Device ids: 82574L and 82574LA (datasheet section 1.6). */
export const E1000E_DEVICE_IDS = [0x10d3, 0x10f6] as const;

/** Register offsets. */
export const E1000e = {
  EIAC: 0x00dc,
  IVAR: 0x00e4,
  /** Five registers: the interval between interrupts of an MSI-X vector, in 256 ns. */
  EITR: 0x00e8,
  ITR: 0x00c4,
  EXTCNF_CTRL: 0x0f00,
  TARC0: 0x3840,
  TARC1: 0x3940,
} as const;

const extcnfBits = { MDIO_SW_OWNERSHIP: [5] } as const;
/** EXTCNF_CTRL, section 10.2.2.16: who may use the PHY. */
export const ExtcnfCtrl: Fields<typeof extcnfBits> = fields(extcnfBits);
const ctrlExtBits = { EIAME: [24], IAME: [27], PBA_SUPPORT: [31] } as const;
/** CTRL_EXT, section 10.2.2.5. */
export const E1000eCtrlExt: Fields<typeof ctrlExtBits> = fields(ctrlExtBits);
const rfctlBits = { EXSTEN: [15] } as const;
/** RFCTL, section 10.2.5.16: extended receive descriptors. */
export const E1000eRfctl: Fields<typeof rfctlBits> = fields(rfctlBits);
const tarcBits = { COUNT: [0, 7], ENABLE: [10] } as const;
/** TARC, section 10.2.6.10: the arbitration between transmit queues. */
export const Tarc: Fields<typeof tarcBits> = fields(tarcBits);
/** The place of each cause in IVAR, section 10.2.4.9: the vector in 2:0, valid in 3. */
export const IvarShift = { RXQ0: 0, RXQ1: 4, TXQ0: 8, TXQ1: 12, OTHER: 16 } as const;
export const IVAR_VALID = 8;
/** MRQC bits 1:0: multiple receive queues by RSS (section 10.2.5.20). */
export const E1000E_MRQC_RSS = 1;
/** An entry of the redirection table: the queue stands in bit 7 (section 10.2.5.21). */
export const E1000E_RETA_QUEUE_SHIFT = 7;
export const E1000E_QUEUES = 2;
/** MSI-X vectors. */
export const E1000E_VECTORS = 5;
