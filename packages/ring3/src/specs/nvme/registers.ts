// Controller registers of an NVMe controller on PCI Express, in BAR0/1: NVMe base 2.0, section 3.1.3; the doorbells:
// NVMe over PCIe transport 1.0, section 3.1.2. 64-bit registers are named here as two 32-bit words, low word first:
// QEMU and some controllers take no 64-bit access, and every controller takes two of 32 bits.
import { type Fields, fields } from "../../binary/layout.ts";

/** PCI class code of an NVM Express I/O controller: mass storage, non-volatile memory, NVMe. */
export const NVME_CLASS_CODE = 0x010802;

/** Register offsets. `_LOW` and `_HIGH` are the halves of one 64-bit register. */
export const Nvme = {
  CAP_LOW: 0x00,
  CAP_HIGH: 0x04,
  VS: 0x08,
  INTMS: 0x0c,
  INTMC: 0x10,
  CC: 0x14,
  CSTS: 0x1c,
  NSSR: 0x20,
  AQA: 0x24,
  ASQ_LOW: 0x28,
  ASQ_HIGH: 0x2c,
  ACQ_LOW: 0x30,
  ACQ_HIGH: 0x34,
  CMBLOC: 0x38,
  CMBSZ: 0x3c,
  BPINFO: 0x40,
  BPRSEL: 0x44,
  BPMBL_LOW: 0x48,
  BPMBL_HIGH: 0x4c,
  CMBMSC_LOW: 0x50,
  CMBMSC_HIGH: 0x54,
  CMBSTS: 0x58,
  CMBEBS: 0x5c,
  CMBSWTP: 0x60,
  NSSD: 0x64,
  CRTO: 0x68,
  PMRCAP: 0xe00,
  PMRCTL: 0xe04,
  PMRSTS: 0xe08,
  PMREBS: 0xe0c,
  PMRSWTP: 0xe10,
  PMRMSCL: 0xe14,
  PMRMSCU: 0xe18,
  DOORBELLS: 0x1000,
} as const;

const capLowBits = { MQES: [0, 16], CQR: [16], AMS: [17, 2], TO: [24, 8] } as const;
/** CAP bits 31:0, section 3.1.3.1. MQES is zero-based; TO counts 500 ms. */
export const CapLow: Fields<typeof capLowBits> = fields(capLowBits);
const capHighBits = {
  DSTRD: [0, 4],
  NSSRS: [4],
  CSS_NVM: [5],
  CSS_IO_SETS: [11],
  CSS_ADMIN_ONLY: [12],
  BPS: [13],
  CPS: [14, 2],
  MPSMIN: [16, 4],
  MPSMAX: [20, 4],
  PMRS: [24],
  CMBS: [25],
  NSSS: [26],
  CRMS: [27, 2],
} as const;
/** CAP bits 63:32. Page sizes are 2 ^ (12 + MPSMIN); the doorbell stride is 4 << DSTRD bytes. */
export const CapHigh: Fields<typeof capHighBits> = fields(capHighBits);
const vsBits = { TER: [0, 8], MNR: [8, 8], MJR: [16, 16] } as const;
/** VS, section 3.1.3.2. */
export const Vs: Fields<typeof vsBits> = fields(vsBits);
const ccBits = {
  EN: [0],
  CSS: [4, 3],
  MPS: [7, 4],
  AMS: [11, 3],
  SHN: [14, 2],
  IOSQES: [16, 4],
  IOCQES: [20, 4],
  CRIME: [24],
} as const;
/** CC, section 3.1.3.5. IOSQES and IOCQES are powers of two: 6 and 4. */
export const Cc: Fields<typeof ccBits> = fields(ccBits);
/** Values of CC.CSS: the NVM command set, or all that the controller has. */
export const CommandSetSelected = { NVM: 0, ALL: 6, ADMIN_ONLY: 7 } as const;
/** Values of CC.SHN. */
export const ShutdownNotification = { NONE: 0, NORMAL: 1, ABRUPT: 2 } as const;
const cstsBits = { RDY: [0], CFS: [1], SHST: [2, 2], NSSRO: [4], PP: [5], ST: [6] } as const;
/** CSTS, section 3.1.3.6. */
export const Csts: Fields<typeof cstsBits> = fields(cstsBits);
/** Values of CSTS.SHST. */
export const ShutdownStatus = { NORMAL: 0, OCCURRING: 1, COMPLETE: 2 } as const;
const aqaBits = { ASQS: [0, 12], ACQS: [16, 12] } as const;
/** AQA, section 3.1.3.8: sizes are zero-based. */
export const Aqa: Fields<typeof aqaBits> = fields(aqaBits);
/** Written to NSSR it resets the NVM subsystem ("NVMe"), section 3.1.3.7. */
export const NSSR_RESET = 0x4e564d65;
const cmblocBits = {
  BIR: [0, 3],
  CQMMS: [3],
  CQPDS: [4],
  CDPMLS: [5],
  CDPCILS: [6],
  CDMMMS: [7],
  CQDA: [8],
  OFST: [12, 20],
} as const;
/** CMBLOC, section 3.1.3.11. */
export const Cmbloc: Fields<typeof cmblocBits> = fields(cmblocBits);
const cmbszBits = {
  SQS: [0],
  CQS: [1],
  LISTS: [2],
  RDS: [3],
  WDS: [4],
  SZU: [8, 4],
  SZ: [12, 20],
} as const;
/** CMBSZ, section 3.1.3.12. */
export const Cmbsz: Fields<typeof cmbszBits> = fields(cmbszBits);
const crtoBits = { CRWMT: [0, 16], CRIMT: [16, 16] } as const;
/** CRTO, section 3.1.3.21: ready times in units of 500 ms. */
export const Crto: Fields<typeof crtoBits> = fields(crtoBits);

/** Offset of the tail doorbell of submission queue `queue`, for CAP.DSTRD `stride`. PCIe transport 1.0, section 3.1.2.1. */
export function submissionDoorbell(queue: number, stride: number): number {
  return Nvme.DOORBELLS + 2 * queue * (4 << stride);
}

/** Offset of the head doorbell of completion queue `queue`. PCIe transport 1.0, section 3.1.2.2. */
export function completionDoorbell(queue: number, stride: number): number {
  return Nvme.DOORBELLS + (2 * queue + 1) * (4 << stride);
}
