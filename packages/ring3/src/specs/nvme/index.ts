export * from "./commands.ts";
export * from "./completion-places.ts";
export * from "./features.ts";
export * from "./register-map.ts";
export * from "./registers.ts";
export * from "./status.ts";
export * from "./structs.ts";
