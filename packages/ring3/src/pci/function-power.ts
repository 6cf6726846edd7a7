// Power states through PMCSR, and the low-power feature of back ends that have one, in which the platform may switch the
// function off altogether.
import { Ring3Error } from "../binary/error.ts";
import { PowerManagement } from "./capabilities/power-management.ts";
import type { ConfigSpace } from "./config-space.ts";
import type { Ending } from "./ending.ts";
import type { FunctionEventSource } from "./events.ts";
import type { Power, PowerState } from "./function.ts";
import type { WindowGate } from "./window-gate.ts";

const stateNames: readonly PowerState[] = ["D0", "D1", "D2", "D3hot"];

/** The platform's own way to save power below D3hot. */
export interface LowPower {
  offered(): boolean;
  enter(): void;
  leave(): void;
}

export class FunctionPower implements Power {
  readonly #config: ConfigSpace;
  readonly #lowPowerEntry: LowPower | undefined;
  readonly #gate: WindowGate;
  readonly #events: FunctionEventSource;
  readonly #ending: Ending;
  #lowPower = false;

  /** `lowPower` where the back end has the feature. */
  constructor(config: ConfigSpace, gate: WindowGate, events: FunctionEventSource, ending: Ending, lowPower?: LowPower) {
    this.#config = config;
    this.#lowPowerEntry = lowPower;
    this.#gate = gate;
    this.#events = events;
    this.#ending = ending;
  }

  /** `unknown` without the capability, and while low power is on: looking would wake the function. */
  get state(): PowerState {
    this.#ending.check();
    if (this.#lowPower || this.#config.find(PowerManagement) === undefined) return "unknown";
    return stateNames[this.#config.read(PowerManagement.PMCSR).POWER_STATE] ?? "unknown";
  }

  async set(state: "D0" | "D3hot"): Promise<void> {
    this.#ending.check();
    if (this.#config.find(PowerManagement) === undefined) {
      throw new Ring3Error("NOT_SUPPORTED", "the function has no power management capability: it is always in D0");
    }
    if (this.#lowPower) throw new Ring3Error("POWER_REFUSED", "low power is on; call exitLowPower first");
    const before = this.state;
    // The config access suspends the windows before this write, and the kernel waits as long as the transition takes.
    this.#config.write(PowerManagement.PMCSR, { POWER_STATE: state === "D0" ? 0 : 3 });
    const after = this.state;
    if (after !== state)
      throw new Ring3Error("POWER_REFUSED", `the function stayed in ${after} when told to enter ${state}`);
    if (before !== after) this.#events.emit("power", { state: after });
    await Promise.resolve();
  }

  async enterLowPower(): Promise<void> {
    this.#ending.check();
    if (this.#lowPowerEntry?.offered() !== true) {
      throw new Ring3Error(
        "NOT_SUPPORTED",
        "the function's back end (vfio-user, or a kernel before Linux 6.1) or the device's driver has no low power feature",
      );
    }
    if (this.#lowPower) return;
    this.#gate.block("low power is on");
    try {
      this.#lowPowerEntry.enter();
    } catch (error) {
      this.#gate.unblock("low power is on");
      throw error;
    }
    this.#lowPower = true;
    this.#events.emit("power", { state: "unknown" });
    await Promise.resolve();
  }

  async exitLowPower(): Promise<void> {
    this.#ending.check();
    if (!this.#lowPower) return;
    this.#lowPowerEntry?.leave();
    this.#lowPower = false;
    this.#gate.unblock("low power is on");
    this.#events.emit("power", { state: this.state });
    await Promise.resolve();
  }
}
