export * from "./frame.ts";
export * from "./mac-address.ts";
