// For `ring3 serve`: an NVMe disk in memory that interrupts by MSI, which a guest takes only where there is no MSI-X.
import { memoryBacking, NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";

const DISK_BYTES = 32 * 2 ** 20;

export const device = (): NvmeDevice =>
  new NvmeDevice({
    namespaces: [{ backing: memoryBacking(DISK_BYTES) }],
    serialNumber: "only-msi",
    interrupts: ["msi"],
  });
