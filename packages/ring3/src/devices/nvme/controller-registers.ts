// What the controller's registers read as, and what writing them does: NVMe base 2.0, section 3.1.3.
import { Aqa, CapHigh, CapLow, Cc, Crto, Csts, NSSR_RESET, Nvme } from "../../specs/nvme/registers.ts";
import type { NvmeController } from "./controller.ts";
import { NVME_VERSION } from "./identify.ts";
import type { NvmeSettings } from "./options.ts";

/** Memory pages of 4 KiB to 64 KiB. */
export const MPS_MAX = 4;
/** How long the host should wait for CSTS.RDY, in units of 500 ms: the backing may have writes under way. */
const READY_UNITS = 30;
const CC_WRITABLE: number =
  Cc.EN.mask | Cc.CSS.mask | Cc.MPS.mask | Cc.AMS.mask | Cc.SHN.mask | Cc.IOSQES.mask | Cc.IOCQES.mask;

/** Reads a register below the doorbells. */
export function readRegister(controller: NvmeController, settings: NvmeSettings, offset: number): number {
  const { adminQueue } = controller;
  switch (offset) {
    case Nvme.CAP_LOW:
      return (CapLow.MQES.of(settings.maxQueueEntries - 1) | CapLow.CQR.mask | CapLow.TO.of(READY_UNITS)) >>> 0;
    case Nvme.CAP_HIGH:
      return (
        CapHigh.DSTRD.of(settings.doorbellStride) |
        CapHigh.NSSRS.mask |
        CapHigh.CSS_NVM.mask |
        CapHigh.CSS_IO_SETS.mask |
        CapHigh.MPSMAX.of(MPS_MAX) |
        CapHigh.CRMS.of(1)
      );
    case Nvme.VS:
      return NVME_VERSION;
    case Nvme.INTMS:
    case Nvme.INTMC:
      return controller.lines.mask;
    case Nvme.CC:
      return controller.cc;
    case Nvme.CSTS:
      return (
        (controller.ready ? Csts.RDY.mask : 0) |
        (controller.fatal ? Csts.CFS.mask : 0) |
        Csts.SHST.of(controller.shutdownStatus) |
        (controller.subsystemReset ? Csts.NSSRO.mask : 0)
      );
    case Nvme.AQA:
      return adminQueue.aqa;
    case Nvme.ASQ_LOW:
      return adminQueue.asqLow;
    case Nvme.ASQ_HIGH:
      return adminQueue.asqHigh;
    case Nvme.ACQ_LOW:
      return adminQueue.acqLow;
    case Nvme.ACQ_HIGH:
      return adminQueue.acqHigh;
    case Nvme.CRTO:
      return Crto.CRWMT.of(READY_UNITS);
    default:
      return 0;
  }
}

/** Writes a register below the doorbells. */
export function writeRegister(controller: NvmeController, offset: number, value: number): void {
  const { adminQueue, lines } = controller;
  switch (offset) {
    case Nvme.INTMS:
      lines.mask |= value;
      break;
    case Nvme.INTMC:
      lines.mask &= ~value;
      break;
    case Nvme.CC:
      controller.configure(value & CC_WRITABLE);
      break;
    case Nvme.CSTS:
      if (Csts.NSSRO.test(value)) controller.subsystemReset = false;
      break;
    case Nvme.NSSR:
      if (value === NSSR_RESET) controller.resetSubsystem();
      break;
    case Nvme.AQA:
      adminQueue.aqa = value & (Aqa.ASQS.mask | Aqa.ACQS.mask);
      break;
    // The low 12 bits of the addresses are reserved: memory pages have 4096 bytes at least.
    case Nvme.ASQ_LOW:
      adminQueue.asqLow = (value & ~0xfff) >>> 0;
      break;
    case Nvme.ASQ_HIGH:
      adminQueue.asqHigh = value;
      break;
    case Nvme.ACQ_LOW:
      adminQueue.acqLow = (value & ~0xfff) >>> 0;
      break;
    case Nvme.ACQ_HIGH:
      adminQueue.acqHigh = value;
      break;
  }
}
