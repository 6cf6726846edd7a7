export * from "./commands.ts";
export * from "./features.ts";
export * from "./registers.ts";
export * from "./status.ts";
export * from "./structs.ts";
