// Registers that Intel's gigabit controllers have in common, here as the 82574 (datasheet 3.4, section 10.2) and the 82576
// (datasheet 2.63, section 8) place them in BAR0. All are 32 bits wide and little endian; 64-bit ones are two.
import { type Fields, fields } from "../../binary/layout.ts";

export const INTEL_VENDOR_ID = 0x8086;

/** Register offsets; those of queues are in {@link QueueRegister}. */
export const Gigabit = {
  CTRL: 0x0000,
  STATUS: 0x0008,
  EECD: 0x0010,
  EERD: 0x0014,
  CTRL_EXT: 0x0018,
  MDIC: 0x0020,
  FCAL: 0x0028,
  FCAH: 0x002c,
  FCT: 0x0030,
  VET: 0x0038,
  ICR: 0x00c0,
  ICS: 0x00c8,
  IMS: 0x00d0,
  IMC: 0x00d8,
  IAM: 0x00e0,
  RCTL: 0x0100,
  FCTTV: 0x0170,
  TCTL: 0x0400,
  TIPG: 0x0410,
  FCRTL: 0x2160,
  FCRTH: 0x2168,
  RXCSUM: 0x5000,
  RFCTL: 0x5008,
  /** 128 words: the multicast table. */
  MTA: 0x5200,
  /** 16 pairs of words: receive addresses. */
  RAL: 0x5400,
  RAH: 0x5404,
  /** 128 words: the VLAN filter table. */
  VFTA: 0x5600,
  MRQC: 0x5818,
  SW_FW_SYNC: 0x5b5c,
  SWSM: 0x5b50,
  /** 32 words of four entries: the redirection table. */
  RETA: 0x5c00,
  /** 10 words: the hash key. */
  RSSRK: 0x5c80,
} as const;

/** Registers of a queue, from its base: 82574 sections 10.2.5 and 10.2.6, 82576 sections 8.10 and 8.12. */
export const QueueRegister = {
  BAL: 0x00,
  BAH: 0x04,
  LEN: 0x08,
  /** 82576, receive queues only. */
  SRRCTL: 0x0c,
  HEAD: 0x10,
  TAIL: 0x18,
  DCTL: 0x28,
} as const;
/** Bases of the registers of receive and transmit queues 0 to 3: `base + queue * step`. */
export const QueueBase = { RECEIVE: 0x2800, TRANSMIT: 0x3800, STEP: 0x100 } as const;

const ctrlBits = {
  FD: [0],
  GIO_MASTER_DISABLE: [2],
  ASDE: [5],
  SLU: [6],
  SPEED: [8, 2],
  FRCSPD: [11],
  FRCDPX: [12],
  RST: [26],
  RFCE: [27],
  TFCE: [28],
  VME: [30],
  PHY_RST: [31],
} as const;
/** CTRL: 82574 section 10.2.2.1, 82576 section 8.2.1. A virtual function has RST alone. */
export const Ctrl: Fields<typeof ctrlBits> = fields(ctrlBits);
const statusBits = { FD: [0], LU: [1], FUNC: [2, 2], TXOFF: [4], SPEED: [6, 2], GIO_MASTER_ENABLE: [19] } as const;
/** STATUS: 82574 section 10.2.2.2, 82576 section 8.2.2. SPEED: 0 is 10 Mb/s, 1 is 100, 2 and 3 are 1000. */
export const DeviceStatus: Fields<typeof statusBits> = fields(statusBits);
const mdicBits = { DATA: [0, 16], REG: [16, 5], PHY: [21, 5], OP: [26, 2], READY: [28], ERROR: [30] } as const;
/** MDIC: 82574 section 10.2.2.7, 82576 section 8.2.4. */
export const Mdic: Fields<typeof mdicBits> = fields(mdicBits);
export const MdicOperation = { WRITE: 1, READ: 2 } as const;
/** PHY registers, IEEE 802.3 clause 22.2.4. */
export const PhyRegister = { CONTROL: 0, STATUS: 1, ID1: 2, ID2: 3 } as const;
const phyControlBits = { RESTART: [9], POWER_DOWN: [11], AUTONEGOTIATE: [12], LOOPBACK: [14], RESET: [15] } as const;
/** PHY control, IEEE 802.3 table 22-7. */
export const PhyControl: Fields<typeof phyControlBits> = fields(phyControlBits);

const rctlBits = {
  EN: [1],
  SBP: [2],
  UPE: [3],
  MPE: [4],
  LPE: [5],
  LBM: [6, 2],
  MO: [12, 2],
  BAM: [15],
  BSIZE: [16, 2],
  VFE: [18],
  PMCF: [23],
  BSEX: [25],
  SECRC: [26],
} as const;
/** RCTL: 82574 section 10.2.5.1, 82576 section 8.10.1. */
export const Rctl: Fields<typeof rctlBits> = fields(rctlBits);
const tctlBits = { EN: [1], PSP: [3], CT: [4, 8], COLD: [12, 10], MULR: [28] } as const;
/** TCTL: 82574 section 10.2.6.1, 82576 section 8.12.1. */
export const Tctl: Fields<typeof tctlBits> = fields(tctlBits);
const dctlBits = {
  PTHRESH: [0, 5],
  HTHRESH: [8, 5],
  WTHRESH: [16, 5],
  COUNT_DESC: [22],
  GRAN: [24],
  ENABLE: [25],
} as const;
/**
 * RXDCTL and TXDCTL: 82574 sections 10.2.5.8 and 10.2.6.9 (COUNT_DESC, GRAN), 82576 sections 8.10.10 and 8.12.15 (ENABLE).
 */
export const Dctl: Fields<typeof dctlBits> = fields(dctlBits);
const rxcsumBits = { PCSS: [0, 8], IPOFLD: [8], TUOFLD: [9], CRCOFL: [11], IPPCSE: [12], PCSD: [13] } as const;
/** RXCSUM: 82574 section 10.2.5.15, 82576 section 8.10.21. */
export const Rxcsum: Fields<typeof rxcsumBits> = fields(rxcsumBits);
const rahBits = { ADDRESS: [0, 16], POOL: [18, 8], AV: [31] } as const;
/** RAH: 82574 section 10.2.5.18, 82576 section 8.10.14. */
export const Rah: Fields<typeof rahBits> = fields(rahBits);
const icrBits = {
  TXDW: [0],
  TXQE: [1],
  LSC: [2],
  RXDMT0: [4],
  RXO: [6],
  RXT0: [7],
  VMMB: [8],
  RXQ0: [20],
  RXQ1: [21],
  TXQ0: [22],
  TXQ1: [23],
  OTHER: [24],
  DRSTA: [30],
  ASSERTED: [31],
} as const;
/**
 * Causes in ICR, ICS, IMS and IMC: 82574 section 10.2.4.1 (RXQ0 to OTHER), 82576 section 8.8.9 (VMMB, DRSTA; RXT0 is
 * called RXDW there).
 */
export const Icr: Fields<typeof icrBits> = fields(icrBits);
const swsmBits = { SMBI: [0], SWESMBI: [1], DRV_LOAD: [3] } as const;
/** SWSM: 82574 section 10.2.9.1, 82576 section 8.7.1. */
export const Swsm: Fields<typeof swsmBits> = fields(swsmBits);
/** MRQC's choice of what the hash is over: 82574 section 10.2.5.20, 82576 section 8.10.22. */
export const HashFields = { TCP_IPV4: 0x1_0000, IPV4: 0x2_0000, IPV6: 0x10_0000, TCP_IPV6: 0x20_0000 } as const;

/** The word of a multicast or unicast table of 4096 bits and the bit in it, with RCTL.MO 0: 82576 section 7.1.1.3. */
export function multicastBit(address: Uint8Array): { readonly word: number; readonly bit: number } {
  const hash = (((address[4] as number) >>> 4) | ((address[5] as number) << 4)) & 0xfff;
  return { word: hash >>> 5, bit: hash & 31 };
}
