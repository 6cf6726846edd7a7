export * from "./features.ts";
export * from "./register-map.ts";
export * from "./registers.ts";
export * from "./rings.ts";
export * from "./structs.ts";
