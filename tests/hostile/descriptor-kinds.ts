// What a recorded descriptor was: enough to send one of its kind again.
import { readlinkSync } from "node:fs";
import type { FileDescriptor } from "../../packages/ring3/src/linux/index.ts";
import type { RecordedFd } from "./recording.ts";

export function kindOf(fd: FileDescriptor): RecordedFd {
  const target = readlinkSync(`/proc/self/fd/${fd.number}`);
  return target.includes("[eventfd]") ? "e" : "m";
}
