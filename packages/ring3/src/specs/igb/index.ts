export * from "./mailbox.ts";
export * from "./registers.ts";
