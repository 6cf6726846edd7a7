export * from "./descriptors.ts";
export * from "./registers.ts";
export * from "./statistics.ts";
