// What identify says about the bounds of commands, and whether queue entries have the sizes that the driver uses.
import { Ring3Error } from "../../binary/error.ts";
import type { IdentifyController } from "../../specs/nvme/structs.ts";
import type { Admin } from "./admin.ts";
import type { BlockLimits } from "./namespace.ts";

/** The bounds of commands; those of the NVM command set are there from NVMe 1.4 on, where the controller knows them. */
export async function readLimits(
  admin: Admin,
  identify: IdentifyController,
  pageSize: number,
  maxTransferBytes: number,
): Promise<BlockLimits> {
  const limits = { maxTransferBytes };
  const none = { maxVerifyBytes: 0, maxWriteZeroesBytes: 0, maxDatasetRangeBlocks: 0 };
  if (identify.VER < 0x10400) return { ...limits, ...none };
  try {
    const data = await admin.identifyCommandSet();
    // NVM command set 1.0, figure 100: VSL, WZSL (powers of two of pages, 0: no limit), WUSL, DMRL, DMRSL.
    const power = (exponent: number): number => (exponent === 0 || exponent > 30 ? 0 : pageSize * 2 ** exponent);
    const view = new DataView(data.buffer, data.byteOffset, 16);
    return {
      ...limits,
      maxVerifyBytes: power(view.getUint8(0)),
      maxWriteZeroesBytes: power(view.getUint8(1)),
      maxDatasetRangeBlocks: view.getUint32(4, true),
    };
  } catch (error) {
    if (error instanceof Ring3Error && error.code === "NVME_STATUS") return { ...limits, ...none };
    throw error;
  }
}

/** SQES and CQES: the entry sizes that the driver uses lie between required and maximum. */
export function checkEntrySizes(address: string, { SQES, CQES }: IdentifyController): void {
  const fits = (sizes: number, size: number): boolean => (sizes & 0xf) <= size && sizes >>> 4 >= size;
  if (fits(SQES, 6) && fits(CQES, 4)) return;
  const found = `SQES ${SQES.toString(16)}, CQES ${CQES.toString(16)}`;
  throw new Ring3Error(
    "NVME_PROTOCOL",
    `${address} takes no queue entries of 64 and 16 bytes (${found}); NVMe requires them`,
  );
}
