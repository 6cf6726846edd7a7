// PCIe 6.0, section 7.9.18: an address register and a data register behind which the vital product data lie. A transfer is
// started by writing the address with F as the direction and is over once F has flipped.
import { Ring3Error } from "../../binary/error.ts";
import type { ConfigSpace } from "../config-space.ts";
import { capability, type Declared } from "../register.ts";
import { vpdLength } from "../vpd.ts";

const registers = {
  ADDRESS: { at: [0x02, 16], VPD_ADDRESS: ["RW", 0, 15], F: ["RW", 15] },
  DATA: { at: [0x04, 32], VALUE: ["RW", 0, 32] },
} as const;

/** Access to the vital product data. */
export const VitalProductData: Declared<typeof registers> = capability("VPD", 0x03, registers);

export interface VpdReadOptions {
  /** Time for each 4 bytes; 125 by default (devices behind a slow EEPROM take tens of milliseconds). */
  readonly timeoutMs?: number;
  /** Clock in milliseconds. */
  readonly now?: () => number;
}

/**
 * Reads the vital product data up to their end tag, 4 bytes a transfer; give the result to `parseVpd`. Blocks while it
 * polls. Throws `TIMEOUT` where the function does not answer.
 */
export function readVpd(config: ConfigSpace, options: VpdReadOptions = {}): Uint8Array {
  const { timeoutMs = 125, now = () => performance.now() } = options;
  const limit = 0x8000;
  const content = new Uint8Array(limit);
  const view = new DataView(content.buffer);
  let have = 0;
  for (;;) {
    const need = Math.min(vpdLength(content.subarray(0, have)), limit);
    if (need <= have) return content.slice(0, need);
    while (have < need) {
      config.writeRaw(VitalProductData.ADDRESS, have);
      const deadline = now() + timeoutMs;
      while (config.read(VitalProductData.ADDRESS).F === 0) {
        if (now() > deadline) {
          throw new Ring3Error(
            "TIMEOUT",
            `the function did not deliver VPD at 0x${have.toString(16)} in ${timeoutMs} ms`,
          );
        }
      }
      view.setUint32(have, config.readRaw(VitalProductData.DATA), true);
      have += 4;
    }
  }
}
