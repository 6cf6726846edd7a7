// What the library wants known but does not print: subscribers of the channel get each warning as an object.
import { channel } from "node:diagnostics_channel";

/** The name of the channel on which warnings are published. */
export const WARNINGS = "ring3:warning";

export interface Warning {
  readonly code: string;
  readonly message: string;
}

/** Publishes on the channel and as a Node warning, which the user sees unless switched off. */
export function warn(warning: Warning): void {
  channel(WARNINGS).publish(warning);
  process.emitWarning(warning.message, { type: "Ring3Warning", code: warning.code });
}
