// A trace of a function of the service, in a file of its own.
import { existsSync } from "node:fs";
import { join, parse } from "node:path";
import type { MediatedFunction } from "ring3/mediation";
import { knownDeviceRegisters } from "ring3/registers";
import { MediationTrace } from "ring3/trace";
import { openTraceFile } from "../trace/trace-file.ts";

/** A trace that is being written; disposal ends it. */
export interface FunctionTrace extends Disposable {
  readonly file: string;
}

/** Begins one; what is at `path` stays, and the new file's name has the time in it then. */
export function beginTrace(mediated: MediatedFunction, path: string): FunctionTrace {
  const parts = new DisposableStack();
  const unused = unusedPath(path);
  const file = parts.use(openTraceFile(unused));
  parts.use(new MediationTrace(mediated, file, { registers: knownDeviceRegisters(mediated) }));
  return { file: unused, [Symbol.dispose]: () => parts.dispose() };
}

/** `path`, or where there is a file already, the path with the time in it. */
function unusedPath(path: string, now: Date = new Date()): string {
  if (!existsSync(path)) return path;
  const { dir, name, ext } = parse(path);
  return join(dir, `${name}-${now.toISOString().replaceAll(/[:.]/g, "-")}${ext}`);
}
