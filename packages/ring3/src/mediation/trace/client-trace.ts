// What every trace of a device's clients has in common, wherever accesses are seen: who came and went, the maps, resets and
// power, and a decoder for what the client sees. Each client is a function of the trace of its own, with its name.
import type { DeviceRegisters } from "../../binary/register-map.ts";
import type { VirtualFunction } from "../../virtual/function.ts";
import { AccessDecoder } from "./decoder.ts";
import type { EventBody, TraceEvent, TraceSink } from "./event.ts";

export interface DeviceTraceOptions {
  readonly registers?: DeviceRegisters | undefined;
  /** Number of the first client's function in the trace; 0 by default. */
  readonly fn?: number;
  /** When the trace began, as `performance.now()` had it; now by default. */
  readonly startMs?: number;
}

/** The part of a trace that a device tells by itself. Disposal stops listening. */
export class ClientTrace implements Disposable {
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
  #attended = false;
  /** What happened since an access began: it comes after the access. */
  #held: TraceEvent[] | undefined;

  constructor(device: VirtualFunction, sink: TraceSink, options: DeviceTraceOptions = {}) {
    this.#device = device;
    this.#sink = sink;
    this.#registers = options.registers;
    this.#startMs = options.startMs ?? performance.now();
    this.#fn = (options.fn ?? 0) - 1;
    this.#listen();
    // A trace may begin while somebody uses the device.
    if (device.connectedTo !== undefined) this.#connected(device.connectedTo);
  }

  [Symbol.dispose](): void {
    this.#listening.dispose();
  }

  /** Knows registers by the configuration space that the client sees; `undefined` before the first client. */
  protected get decoder(): AccessDecoder | undefined {
    return this.#decoder;
  }

  /** Whether a client has the device, and the trace its opening: what reads config space before and after is no client. */
  protected get attended(): boolean {
    return this.#attended;
  }

  /** An access begins: what happens until {@link accessed} comes after it. */
  protected hold(): void {
    this.#held ??= [];
  }

  /** Writes an access itself, before what was held for it. */
  protected accessed(atMs: number, event: EventBody): void {
    this.#sink.write(this.#whole(atMs, event));
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const consequence of held) this.#sink.write(consequence);
  }

  protected now(event: EventBody): void {
    const whole = this.#whole(performance.now(), event);
    if (this.#held === undefined) this.#sink.write(whole);
    else this.#held.push(whole);
  }

  #listen(): void {
    const { events } = this.#device;
    const listening = this.#listening;
    listening.use(events.on("connected", ({ host }) => this.#connected(host)));
    listening.use(
      events.on("disconnected", ({ host }) => {
        this.#attended = false;
        this.now({ type: "close", reason: `${host} has gone` });
      }),
    );
    listening.use(
      events.on("mapped", ({ iova, size, permission }) => {
        const map = this.#mapCount++;
        this.#maps.set(iova, map);
        this.now({ type: "map", map, iova, size, permission });
      }),
    );
    listening.use(
      events.on("unmapped", ({ iova, size }) => {
        this.now({ type: "unmap", map: this.#maps.get(iova) ?? 0, iova, size });
        this.#maps.delete(iova);
      }),
    );
    listening.use(
      events.on("reset", ({ kind }) => {
        const method = kind === "flr" ? "flr" : kind === "d3hot" ? "pm" : "bus";
        this.now({ type: "reset", method, took: 0 });
      }),
    );
    listening.use(events.on("power", ({ state }) => this.now({ type: "power", state, took: 0 })));
    for (const name of ["error", "fault"] as const) {
      listening.use(events.on(name, ({ description }) => this.now({ type: "event", name, detail: { description } })));
    }
  }

  #connected(host: string): void {
    const device = this.#device;
    const config = new Uint8Array(device.config.size);
    device.config.readInto(0, config);
    this.#decoder = new AccessDecoder(config, this.#registers);
    this.#fn++;
    this.#user = host;
    const { intx, msi, msix } = device.interrupts.available;
    this.now({
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
    this.#attended = true;
  }

  #whole(atMs: number, event: EventBody): TraceEvent {
    const t = Math.max(0, Math.round((atMs - this.#startMs) * 1e6));
    return { t, fn: Math.max(0, this.#fn), user: this.#user, ...event };
  }
}
