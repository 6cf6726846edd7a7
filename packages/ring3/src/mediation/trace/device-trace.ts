// The trace of a device behind a socket: what its client does is seen where the messages come in, so a guest's own driver is
// seen register by register. Each client is a function of the trace of its own, with its name.
import type { DeviceRegisters } from "../../binary/register-map.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { VirtualFunction } from "../../virtual/function.ts";
import type { InterruptKind } from "../../virtual/interrupts.ts";
import { AccessDecoder } from "./decoder.ts";
import type { EventBody, TraceEvent, TraceSink } from "./event.ts";

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

export interface DeviceTraceOptions {
  readonly registers?: DeviceRegisters | undefined;
  /** Number of the first client's function in the trace; 0 by default. */
  readonly fn?: number;
  /** When the trace began, as `performance.now()` had it; now by default. */
  readonly startMs?: number;
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
export class DeviceTrace implements Disposable {
  readonly #device: VirtualFunction;
  readonly #sink: TraceSink;
  readonly #registers: DeviceRegisters | undefined;
  readonly #startMs: number;
  readonly #listening: DisposableStack = new DisposableStack();
  readonly #maps: Map<number, number> = new Map();
  #decoder: AccessDecoder | undefined;
  #fn: number;
  #mapCount = 0;
  #user = "";
  /** What happened since an access began: it comes after the access. */
  #held: TraceEvent[] | undefined;

  constructor(device: VirtualFunction, sink: TraceSink, options: DeviceTraceOptions = {}) {
    this.#device = device;
    this.#sink = sink;
    this.#registers = options.registers;
    this.#startMs = options.startMs ?? performance.now();
    this.#fn = (options.fn ?? 0) - 1;
    const { events } = device;
    this.#listening.use(events.on("connected", ({ host }) => this.#connected(host)));
    this.#listening.use(
      events.on("disconnected", ({ host }) => this.#now({ type: "close", reason: `${host} has gone` })),
    );
    this.#listening.use(
      events.on("mapped", ({ iova, size, permission }) => {
        const map = this.#mapCount++;
        this.#maps.set(iova, map);
        this.#now({ type: "map", map, iova, size, permission });
      }),
    );
    this.#listening.use(
      events.on("unmapped", ({ iova, size }) => {
        this.#now({ type: "unmap", map: this.#maps.get(iova) ?? 0, iova, size });
        this.#maps.delete(iova);
      }),
    );
    this.#listening.use(
      events.on("reset", ({ kind }) => {
        const method = kind === "flr" ? "flr" : kind === "d3hot" ? "pm" : "bus";
        this.#now({ type: "reset", method, took: 0 });
      }),
    );
    this.#listening.use(events.on("power", ({ state }) => this.#now({ type: "power", state, took: 0 })));
    for (const name of ["error", "fault"] as const) {
      this.#listening.use(
        events.on(name, ({ description }) => this.#now({ type: "event", name, detail: { description } })),
      );
    }
  }

  began(): void {
    this.#held ??= [];
  }

  access({ space, bar, op, offset, width, value, bytes, startedMs, endedMs }: WatchedAccess): void {
    const isBar = space === "bar";
    let decoded: ReturnType<AccessDecoder["bar"]>;
    if (isBar) decoded = this.#decoder?.bar(bar, offset, width, bytes === undefined ? value : undefined);
    else if (space === "config")
      decoded = this.#decoder?.config(offset, width, bytes === undefined ? value : undefined);
    const took = Math.max(0, Math.round((endedMs - startedMs) * 1e6));
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#write(startedMs, {
      type: space,
      op,
      ...(isBar ? { bar } : {}),
      offset,
      width,
      ...(bytes === undefined ? { value } : { bytes: bytes.slice() }),
      ...(decoded === undefined ? {} : { decoded }),
      took,
    });
    for (const event of held) this.#sink.write(event);
  }

  signal(kind: InterruptKind, vector: number): void {
    if (kind === "intx" || kind === "msi" || kind === "msix") this.#now({ type: "interrupt", kind, vector, count: 1 });
  }

  [Symbol.dispose](): void {
    this.#listening.dispose();
  }

  #connected(host: string): void {
    const device = this.#device;
    const config = new Uint8Array(device.config.size);
    device.config.readInto(0, config);
    this.#decoder = new AccessDecoder(config, this.#registers);
    this.#fn++;
    this.#user = host;
    const { intx, msi, msix } = device.interrupts.available;
    this.#now({
      type: "open",
      identity: device.identity,
      side: "device",
      bars: device.bars.flatMap(({ index, kind, size, prefetchable }) =>
        kind === "none" ? [] : [{ index, kind, size, prefetchable }],
      ),
      interrupts: { intx, msi, msix },
      config,
      ...(this.#registers === undefined ? {} : { registers: this.#registers.name }),
      memory: false,
      passthrough: [],
    });
  }

  #now(event: EventBody): void {
    this.#write(performance.now(), event);
  }

  #write(atMs: number, event: EventBody): void {
    const t = Math.max(0, Math.round((atMs - this.#startMs) * 1e6));
    const whole = { t, fn: Math.max(0, this.#fn), user: this.#user, ...event };
    if (this.#held === undefined) this.#sink.write(whole);
    else this.#held.push(whole);
  }
}
