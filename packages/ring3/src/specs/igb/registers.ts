// What the 82576 has besides the registers of specs/gigabit: 82576 datasheet 2.63, section 8, and for its virtual functions
// section 8.26. BAR0 is 128 KiB, that of a virtual function 16 KiB. Hard about it: a virtual function sees registers of its own
// at the places of the physical function's, so one offset has two meanings.
import { type Fields, fields } from "../../binary/layout.ts";

/** Device ids of physical functions for copper: 82576, quad port, ET2 quad port, NS. */
export const IGB_DEVICE_IDS = [0x10c9, 0x10e8, 0x1526, 0x150a] as const;
/** Device id of a virtual function. */
export const IGB_VF_DEVICE_ID = 0x10ca;

/** Register offsets of a physical function. */
export const Igb = {
  GPIE: 0x1514,
  EICS: 0x1520,
  EIMS: 0x1524,
  EIMC: 0x1528,
  EIAC: 0x152c,
  EIAM: 0x1530,
  EICR: 0x1580,
  /** 25 registers: the interval between interrupts of a vector, in microseconds from bit 2 on. */
  EITR: 0x1680,
  /** 8 registers of four entries: receive queue n, transmit queue n, receive queue n + 8, transmit queue n + 8. */
  IVAR: 0x1700,
  IVAR_MISC: 0x1740,
  RLPML: 0x5004,
  VT_CTL: 0x581c,
  /** Queues from 4 on: `base + queue * step`. */
  RECEIVE_HIGH: 0xc000,
  TRANSMIT_HIGH: 0xe000,
  HIGH_STEP: 0x40,
  /** Dropped packets of a receive queue, cleared by a read. */
  RQDPC: 0xc030,
} as const;
export const IGB_QUEUES = 16;
export const IGB_VECTORS = 25;

const ctrlExtBits = { PFRSTD: [14], DRV_LOAD: [28] } as const;
/** CTRL_EXT, section 8.2.3. */
export const IgbCtrlExt: Fields<typeof ctrlExtBits> = fields(ctrlExtBits);
const gpieBits = { NSICR: [0], MULTIPLE_MSIX: [4], EIAME: [30], PBA_SUPPORT: [31] } as const;
/** GPIE, section 8.8.17. */
export const Gpie: Fields<typeof gpieBits> = fields(gpieBits);
const srrctlBits = {
  BSIZEPACKET: [0, 7],
  BSIZEHEADER: [8, 6],
  RDMTS: [20, 5],
  DESCTYPE: [25, 3],
  DROP_EN: [31],
} as const;
/** SRRCTL, section 8.10.2. BSIZEPACKET counts 1024 bytes. */
export const Srrctl: Fields<typeof srrctlBits> = fields(srrctlBits);
/** SRRCTL.DESCTYPE: advanced, one buffer. */
export const DESCTYPE_ADVANCED_ONE_BUFFER = 1;
/** An entry of IVAR: the vector in 4:0, valid in 7. */
export const IGB_IVAR_VALID = 0x80;
/** MRQC bits 2:0: multiple receive queues by RSS (section 8.10.22), and its hashes over UDP. */
export const IGB_MRQC_RSS = 2;
export const IgbHashFields = { UDP_IPV4: 0x40_0000, UDP_IPV6: 0x80_0000 } as const;
/** SW_FW_SYNC, section 8.7.3: the PHYs of the two ports. */
export const SwFwSync = { PHY0: 0x2, PHY1: 0x4 } as const;

/** Register offsets of a virtual function, section 8.26. Its queues 0 and 1 lie as queues 0 and 1 of {@link QueueBase}. */
export const IgbVf = {
  VTCTRL: 0x0000,
  VTSTATUS: 0x0008,
  /** 16 words that both sides read and write. */
  VMBMEM: 0x0800,
  V2PMAILBOX: 0x0c40,
  PBACL: 0x0f04,
  PSRTYPE: 0x0f0c,
  VTEICS: 0x1520,
  VTEIMS: 0x1524,
  VTEIMC: 0x1528,
  VTEIAC: 0x152c,
  VTEIAM: 0x1530,
  VTEICR: 0x1580,
  /** Three registers: the interval between interrupts of a vector. */
  EITR: 0x1680,
  VTIVAR: 0x1700,
  VTIVAR_MISC: 0x1740,
} as const;
export const IGB_VF_QUEUES = 2;
export const IGB_VF_VECTORS = 3;
/** Counters of a virtual function: 32 bits, wrapping, not cleared by a read; section 8.27. */
export const IgbVfStatistics = {
  VFGPRC: 0x0f10,
  VFGPTC: 0x0f14,
  VFGORC: 0x0f18,
  VFGOTC: 0x0f34,
  VFMPRC: 0x0f3c,
  VFGPRLBC: 0x0f40,
  VFGPTLBC: 0x0f44,
  VFGORLBC: 0x0f48,
  VFGOTLBC: 0x0f50,
} as const;
