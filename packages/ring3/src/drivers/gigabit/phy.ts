// The PHY behind a controller, as far as a driver needs it: that it is on and negotiates. 82574 section 5, 82576 section 3.5.
// Hard about it: firmware and the driver of another port use the same wires, so each access is inside a semaphore.
import { Ring3Error } from "../../binary/error.ts";
import type { Registers } from "../../memory/registers.ts";
import type { PciFunction } from "../../pci/function.ts";
import { Gigabit, Mdic, MdicOperation, PhyControl, PhyRegister } from "../../specs/gigabit/registers.ts";
import type { Clock } from "../clock.ts";
import { waitFor } from "./wait-for.ts";

const PHY_ADDRESS = 1;
const ACCESS_TIMEOUT_MS = 100;

/** Who else uses the PHY is kept away between the two. */
export interface PhySemaphore {
  acquire(): Promise<void>;
  release(): void;
}

export class Phy {
  readonly #fn: PciFunction;
  readonly #registers: Registers;
  readonly #clock: Clock;
  readonly #semaphore: PhySemaphore;

  constructor(fn: PciFunction, registers: Registers, clock: Clock, semaphore: PhySemaphore) {
    this.#fn = fn;
    this.#registers = registers;
    this.#clock = clock;
    this.#semaphore = semaphore;
  }

  /** Switches the PHY on and lets it negotiate (again). */
  async negotiate(): Promise<void> {
    await this.#semaphore.acquire();
    try {
      const control = await this.#access(MdicOperation.READ, PhyRegister.CONTROL, 0);
      const { POWER_DOWN, LOOPBACK, AUTONEGOTIATE, RESTART } = PhyControl;
      const wanted = (control & ~(POWER_DOWN.mask | LOOPBACK.mask)) | AUTONEGOTIATE.mask | RESTART.mask;
      await this.#access(MdicOperation.WRITE, PhyRegister.CONTROL, wanted);
    } finally {
      this.#semaphore.release();
    }
  }

  async #access(operation: number, register: number, data: number): Promise<number> {
    const command = Mdic.DATA.of(data) | Mdic.REG.of(register) | Mdic.PHY.of(PHY_ADDRESS) | Mdic.OP.of(operation);
    this.#registers.write32(Gigabit.MDIC, command >>> 0);
    let answer = 0;
    const limit = { what: "the PHY did not answer", timeoutMs: ACCESS_TIMEOUT_MS };
    await waitFor(this.#fn, this.#clock, limit, () => {
      answer = this.#registers.read32(Gigabit.MDIC);
      return Mdic.READY.test(answer);
    });
    if (Mdic.ERROR.test(answer)) {
      throw new Ring3Error("NET_FAILED", `${this.#fn.identity.address}: the PHY refused register ${register}`);
    }
    return Mdic.DATA.get(answer);
  }
}
