export { type ConnectOptions, connect } from "./client.ts";
export type { ReconnectOptions } from "./client-continuity.ts";
export { VfioUserFunction } from "./client-function.ts";
export { attachServedFunction } from "./client-handle.ts";
export type { IovaSpan, Migration, MigrationState, MigrationSupport } from "./client-migration.ts";
export { FunctionServer, serve } from "./server.ts";
export type { RegisterBus, ServedAccess, ServerBetween, ServerWatch } from "./server-watch.ts";
export type {
  ConnectingPeer,
  ServeOptions,
  ServerEvent,
  ServerStatistics,
  StateStore,
  TracedMessage,
} from "./server-options.ts";
