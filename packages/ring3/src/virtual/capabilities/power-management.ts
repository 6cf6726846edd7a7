// Power management: D0 and D3hot always, D1, D2 and PME where asked for. PCI-PM 1.2, section 3.2.4; PCIe 6.0, sections 5.3.1
// and 7.5.2: a state that the function lacks is written without effect, and so are the transitions that do not exist.
import { PowerManagement } from "../../pci/capabilities/power-management.ts";
import type { CapabilityBuilder } from "../capability-builder.ts";

export interface PowerManagementOptions {
  readonly at?: number;
  /** Whether the function has D1 and D2; off by default. */
  readonly d1?: boolean;
  readonly d2?: boolean;
  /** Whether registers survive D3hot; off by default, so that leaving D3hot resets the function. */
  readonly noSoftReset?: boolean;
  /** States from which the function signals PME; none by default. */
  readonly pme?: readonly ("D0" | "D1" | "D2" | "D3hot" | "D3cold")[];
}

const states = ["D0", "D1", "D2", "D3hot", "D3cold"] as const;

/** Power management. The function hears of transitions through its listener. */
export function pm(options: PowerManagementOptions = {}): CapabilityBuilder {
  const { PMC, PMCSR } = PowerManagement;
  const support = (options.pme ?? []).reduce((mask, state) => mask | (1 << states.indexOf(state)), 0);
  const { POWER_STATE, NO_SOFT_RESET } = PMCSR.fields;
  return {
    group: PowerManagement,
    size: 8,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      place.preset(PMC, { D1_SUPPORT: options.d1 ? 1 : 0, D2_SUPPORT: options.d2 ? 1 : 0, PME_SUPPORT: support });
      place.constant(PMC);
      place.preset(PMCSR, { NO_SOFT_RESET: options.noSoftReset ? 1 : 0 });
      place.constant(PMCSR);
      place.only(PMCSR, support === 0 ? ["POWER_STATE"] : ["POWER_STATE", "PME_ENABLE", "PME_STATUS"]);
      place.guard(PMCSR, ({ before, value }) => {
        const from = POWER_STATE.get(before);
        const to = POWER_STATE.get(value);
        const exists = to === 0 || to === 3 || (to === 1 ? options.d1 === true : options.d2 === true);
        return exists && (to === 0 || to >= from) ? value : POWER_STATE.set(value, from);
      });
      place.onWrite(PMCSR, ({ before, value }) => {
        const from = POWER_STATE.get(before);
        const to = POWER_STATE.get(value);
        if (from === to) return;
        place.listener.power?.({ state: to, before: from, softReset: from === 3 && !NO_SOFT_RESET.test(value) });
      });
    },
  };
}
