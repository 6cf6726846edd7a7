// The log of a server: one JSON object a line, appended to a file or written to stderr. Each line is written before the
// next one is made, so that what happened before a crash is in the file. A full disk costs lines, never the device.
import { closeSync, openSync, writeSync } from "node:fs";
import type { Writable } from "node:stream";

export interface EventLog extends Disposable {
  /** Writes one line: the time, the event's name, and its facts. */
  write(event: string, facts?: Readonly<Record<string, unknown>>): void;
}

const SILENT: EventLog = { write: () => undefined, [Symbol.dispose]: () => undefined };

/** Opens the log: `-` is `stderr`, `undefined` nowhere. `now` gives the time; passed in for tests. */
export function openEventLog(
  target: string | undefined,
  stderr: Writable,
  now: () => Date = () => new Date(),
): EventLog {
  if (target === undefined) return SILENT;
  const line = (event: string, facts: Readonly<Record<string, unknown>>): string => {
    return `${JSON.stringify({ time: now().toISOString(), event, ...facts }, plain)}\n`;
  };
  if (target === "-") {
    return {
      write: (event, facts = {}) => void stderr.write(line(event, facts)),
      [Symbol.dispose]: () => undefined,
    };
  }
  let fd: number | undefined = openSync(target, "a", 0o640);
  let lost = 0;
  return {
    write: (event, facts = {}) => {
      if (fd === undefined) return;
      try {
        writeSync(fd, (lost > 0 ? line("log-lost", { lines: lost }) : "") + line(event, facts));
        lost = 0;
      } catch {
        lost++;
      }
    },
    [Symbol.dispose]: () => {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}

/** What JSON cannot say: integers beyond 2^53 as decimal strings, errors by code and message, bytes by their number. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
  if (value instanceof Error) return { code: (value as { code?: unknown }).code, message: value.message };
  if (ArrayBuffer.isView(value)) return { bytes: value.byteLength };
  return value;
}
