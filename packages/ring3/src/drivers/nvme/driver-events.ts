// What an NVMe driver tells while it runs.
import { DriverEvents } from "../events.ts";

export interface NvmeEventMap {
  /** The controller reported something: its type, information and the log page that says more (base 2.0, section 5.2.1). */
  readonly "asynchronous-event": { readonly type: number; readonly information: number; readonly logPage: number };
  /** The controller was reset and works again; what was in flight and safe to repeat was repeated. */
  readonly recovered: { readonly reason: string };
  /** The machine slept, and the controller works again. */
  readonly resumed: { readonly sleptMs: number };
  /** The driver has ended because the function is gone or wanted back, or cannot be brought back. */
  readonly removed: { readonly code: string; readonly reason: string };
}
export type NvmeEventName = keyof NvmeEventMap;

export class NvmeEvents extends DriverEvents<NvmeEventMap> {}
