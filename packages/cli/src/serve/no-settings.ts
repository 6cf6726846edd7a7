// For tests: what a server is told where no option is given.
import type { ServerSettings } from "./server-options.ts";

export const NO_SETTINGS: ServerSettings = {
  mode: undefined,
  owner: undefined,
  allowUids: undefined,
  openings: 1,
  queue: 0,
  state: undefined,
  keepState: false,
  twinSocket: true,
  trustUnsealedMemory: false,
  log: undefined,
  logMessages: false,
  trace: undefined,
  faults: undefined,
  metrics: undefined,
};
