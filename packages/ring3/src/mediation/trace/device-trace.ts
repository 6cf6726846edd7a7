// The trace of a device behind a socket: what its client does is seen where the messages come in, so a guest's own driver is
// seen register by register.
import type { BarIndex } from "../../pci/function.ts";
import type { InterruptKind } from "../../virtual/interrupts.ts";
import { ClientTrace } from "./client-trace.ts";
import type { AccessDecoder } from "./decoder.ts";

/** An access, as a server shows it to whoever watches. */
interface WatchedAccess {
  readonly space: "config" | "bar" | "rom";
  readonly bar: BarIndex;
  readonly op: "read" | "write";
  readonly offset: number;
  readonly width: 0 | 1 | 2 | 4;
  readonly value: number;
  readonly bytes: Uint8Array | undefined;
  readonly startedMs: number;
  readonly endedMs: number;
}

/**
 * Records what the clients of a served device do: pass it to `serve` as `watch`. Disposal stops listening.
 *
 * @example
 * import { EduDevice } from "ring3/devices/edu";
 * import { eduRegisters } from "ring3/specs/edu";
 * import { DeviceTrace, JsonLines } from "ring3/trace";
 * import { serve } from "ring3/vfio-user";
 * const device = new EduDevice();
 * const lines = new JsonLines((text) => process.stdout.write(text));
 * await using server = await serve(device, "/run/edu.sock", {
 *   watch: new DeviceTrace(device, lines, { registers: eduRegisters }),
 * });
 */
export class DeviceTrace extends ClientTrace {
  began(): void {
    this.hold();
  }

  access({ space, bar, op, offset, width, value, bytes, startedMs, endedMs }: WatchedAccess): void {
    const isBar = space === "bar";
    let decoded: ReturnType<AccessDecoder["bar"]>;
    if (isBar) decoded = this.decoder?.bar(bar, offset, width, bytes === undefined ? value : undefined);
    else if (space === "config") decoded = this.decoder?.config(offset, width, bytes === undefined ? value : undefined);
    const took = Math.max(0, Math.round((endedMs - startedMs) * 1e6));
    this.accessed(startedMs, {
      type: space,
      op,
      ...(isBar ? { bar } : {}),
      offset,
      width,
      ...(bytes === undefined ? { value } : { bytes: bytes.slice() }),
      ...(decoded === undefined ? {} : { decoded }),
      took,
    });
  }

  signal(kind: InterruptKind, vector: number): void {
    if (kind === "intx" || kind === "msi" || kind === "msix") this.now({ type: "interrupt", kind, vector, count: 1 });
  }
}
