// A trace as a file that is written while it comes about: in pieces, at least every fifth of a second, and to the end when the
// last function closes. A full disk costs the rest of the trace, never the device.
import { closeSync, openSync, writeSync } from "node:fs";
import { JsonLines, type TraceSink } from "ring3/trace";

const FLUSH_MS = 200;

/** A trace that is written; disposal ends it. */
export interface TraceFile extends TraceSink, Disposable {}

/** Opens a new trace at `path`; what was there is gone. */
export function openTraceFile(path: string): TraceFile {
  let fd: number | undefined = openSync(path, "w", 0o640);
  const end = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
    clearInterval(timer);
  };
  const lines = new JsonLines((text) => {
    if (fd === undefined) return;
    try {
      writeSync(fd, text);
    } catch (error) {
      process.emitWarning(`the trace ${path} ends here: ${String(error)}`);
      end();
    }
  });
  const timer = setInterval(() => lines.flush(), FLUSH_MS).unref();
  return {
    write(event) {
      lines.write(event);
    },
    [Symbol.dispose]() {
      lines.flush();
      end();
    },
  };
}
