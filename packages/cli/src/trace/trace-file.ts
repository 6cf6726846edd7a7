// A trace as a file that is written while it comes about: in pieces, at least every fifth of a second, and to the end when the
// last function closes. A full disk costs the rest of the trace, never the device.
import { closeSync, openSync, writeSync } from "node:fs";
import { JsonLines, type TraceSink } from "ring3/trace";

const FLUSH_MS = 200;

/** Opens a new trace at `path`; what was there is gone. It is closed with the function whose events it takes. */
export function openTraceFile(path: string): TraceSink {
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
      if (event.type !== "close") return;
      lines.flush();
      end();
    },
  };
}
