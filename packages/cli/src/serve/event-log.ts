// The log of a server: one JSON object a line, appended to a file or written to stderr. Each line is written before the
// next one is made, so that what happened before a crash is in the file. A full disk costs lines, never the device.
import { closeSync, openSync, writeSync } from "node:fs";
import type { Writable } from "node:stream";

export interface EventLog extends Disposable {
  /** Writes one line: the time, the event's name, and its facts. */
  write(event: string, facts?: Readonly<Record<string, unknown>>): void;
  /** Goes on in a new file of the same name, once the old one was renamed; where that fails, in the old one, which says so. */
  reopen(): void;
}

const SILENT: EventLog = { write: () => undefined, reopen: () => undefined, [Symbol.dispose]: () => undefined };

/** Opens the log: `-` is `stderr`, `undefined` nowhere. `now` gives the time; passed in for tests. */
export function openEventLog(
  target: string | undefined,
  stderr: Writable,
  now: () => Date = () => new Date(),
): EventLog {
  if (target === undefined) return SILENT;
  const line: Line = (event, facts) => {
    return `${JSON.stringify({ time: now().toISOString(), event, ...facts }, plain)}\n`;
  };
  if (target === "-") {
    return {
      write: (event, facts = {}) => void stderr.write(line(event, facts)),
      reopen: () => undefined,
      [Symbol.dispose]: () => undefined,
    };
  }
  return new LogFile(target, line);
}

type Line = (event: string, facts: Readonly<Record<string, unknown>>) => string;

class LogFile implements EventLog {
  readonly #path: string;
  readonly #line: Line;
  #fd: number | undefined;
  #lost = 0;
  /** The end of a line that there was no room for: it goes before the next one, so that no line is ever torn. */
  #rest: Uint8Array = new Uint8Array();

  constructor(path: string, line: Line) {
    this.#path = path;
    this.#line = line;
    this.#fd = append(path);
  }

  write(event: string, facts: Readonly<Record<string, unknown>> = {}): void {
    if (this.#fd === undefined) return;
    const told = this.#lost > 0 ? this.#line("log-lost", { lines: this.#lost }) : "";
    this.#flush();
    if (this.#rest.length > 0) {
      this.#lost++;
      return;
    }
    const bytes = new TextEncoder().encode(told + this.#line(event, facts));
    this.#rest = bytes;
    this.#flush();
    if (this.#rest.length === bytes.length) {
      this.#rest = new Uint8Array();
      this.#lost++;
    } else this.#lost = 0;
  }

  reopen(): void {
    if (this.#fd === undefined) return;
    let fd: number;
    try {
      fd = append(this.#path);
    } catch (error) {
      this.write("log-not-reopened", { reason: (error as Error).message });
      return;
    }
    this.#flush();
    closeSync(this.#fd);
    this.#fd = fd;
    // The rest of a line is nothing without its beginning, which is in the other file.
    if (this.#rest.length > 0) this.#lost++;
    this.#rest = new Uint8Array();
  }

  [Symbol.dispose](): void {
    if (this.#fd === undefined) return;
    this.#flush();
    closeSync(this.#fd);
    this.#fd = undefined;
  }

  /** Writes as much of the rest as there is room for. */
  #flush(): void {
    try {
      while (this.#rest.length > 0) this.#rest = this.#rest.subarray(writeSync(this.#fd ?? -1, this.#rest));
    } catch {
      // No room now.
    }
  }
}

function append(path: string): number {
  return openSync(path, "a", 0o640);
}

/** What JSON cannot say: integers beyond 2^53 as decimal strings, errors by code and message, bytes by their number. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
  if (value instanceof Error) return { code: (value as { code?: unknown }).code, message: value.message };
  if (ArrayBuffer.isView(value)) return { bytes: value.byteLength };
  return value;
}
