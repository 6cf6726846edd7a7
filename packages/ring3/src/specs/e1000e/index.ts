export * from "./registers.ts";
