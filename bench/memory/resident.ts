// Resident memory of this process: proc(5), /proc/pid/status.
import { readFileSync } from "node:fs";
import type { Resident } from "./plan.ts";

export function resident(): Resident {
  const status = readFileSync("/proc/self/status", "utf8");
  const bytes = (field: string): number => Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) * 1024;
  return { total: bytes("VmRSS"), anonymous: bytes("RssAnon"), file: bytes("RssFile"), shared: bytes("RssShmem") };
}
