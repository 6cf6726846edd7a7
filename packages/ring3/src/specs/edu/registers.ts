// QEMU's educational device: docs/specs/edu.rst of QEMU. BAR0 is 1 MiB, little endian; below 0x80 only 32-bit accesses.
// Hard about it: the DMA engine works on a 4 KiB buffer inside the device and drives 28 address bits only.
import { bit, type Field } from "../../binary/index.ts";

/** PCI ids: 1234:11e8, revision 10, a device of no class; the subsystem ids are those that QEMU gives its own devices. */
export const EduIds = {
  VENDOR: 0x1234,
  DEVICE: 0x11e8,
  REVISION: 0x10,
  SUBSYSTEM_VENDOR: 0x1af4,
  SUBSYSTEM: 0x1100,
  CLASS_CODE: 0x00ff00,
} as const;

/** Register offsets in BAR0. The DMA registers are 64 bits wide and take two 32-bit accesses as well. */
export const Edu = {
  /** Bytes of BAR0. */
  SIZE: 0x10_0000,
  IDENTIFICATION: 0x00,
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  INTERRUPT_STATUS: 0x24,
  INTERRUPT_RAISE: 0x60,
  INTERRUPT_ACKNOWLEDGE: 0x64,
  DMA_SOURCE: 0x80,
  DMA_DESTINATION: 0x88,
  DMA_COUNT: 0x90,
  DMA_COMMAND: 0x98,
} as const;

/** IDENTIFICATION reads 0xRRrr00ED: RR and rr are the major and minor version. */
export const EDU_MAGIC = 0xed;

/** Bits of STATUS. */
export const EduStatus: { readonly COMPUTING: Field; readonly INTERRUPT_WHEN_DONE: Field } = {
  COMPUTING: bit(0),
  INTERRUPT_WHEN_DONE: bit(7),
};

/** Causes in INTERRUPT_STATUS: the factorial is done, the transfer is done. */
export const EduInterrupt = { FACTORIAL: 0x01, DMA: 0x100 } as const;

/** Bits of DMA_COMMAND. `TO_MEMORY` set: from the device's buffer to memory. */
export const EduDma: { readonly START: Field; readonly TO_MEMORY: Field; readonly INTERRUPT_WHEN_DONE: Field } = {
  START: bit(0),
  TO_MEMORY: bit(1),
  INTERRUPT_WHEN_DONE: bit(2),
};

/** The device's own buffer, as its DMA engine addresses it: 0x40000 and 4096 bytes. */
export const EduBuffer = { ADDRESS: 0x40000, SIZE: 4096 } as const;
/** The engine drives this many address bits (`dma_mask` of the device's default). */
export const EDU_ADDRESS_BITS = 28;
