// A recording as a device: a virtual function that answers a driver as the recorded one did, so that the driver is tested
// where its hardware is not. What it is in config space, it is by its own state; BARs, memory and interrupts follow the script.
import { Ring3Error } from "../../binary/error.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { ResetKind } from "../../virtual/config.ts";
import { VirtualFunction } from "../../virtual/function.ts";
import type { MemoryMap } from "../../virtual/guest-memory.ts";
import { inLaterTurn } from "../../virtual/turns.ts";
import type { Trace } from "../trace/json-lines.ts";
import { declarationOf } from "./declaration.ts";
import { type CameAccess, type Departure, Player, type ReplayOrder } from "./player.ts";
import { type AccessStep, type Script, scriptOf } from "./script.ts";

export interface ReplayOptions {
  /** Which function of the trace; 0 by default. */
  readonly fn?: number;
  /** `state` by default. */
  readonly order?: ReplayOrder;
  /** Hears of the first departure of each client. */
  readonly onDeparture?: (departure: Departure) => void;
  /** Called when a client has gone, with how it did. */
  readonly onEnd?: (result: ReplayResult) => void;
}

/** How a driver did. */
export interface ReplayResult {
  /** Accesses that were as recorded, of how many. */
  readonly made: number;
  readonly accesses: number;
  readonly departure: Departure | undefined;
  /** The first write that did not come (with the strict order: the first access); `undefined` where all came. */
  readonly missing: string | undefined;
}

/**
 * A device that answers from a recording. After a departure reads give ones and the function is asked back, so that the
 * driver ends. Each client begins at the beginning.
 *
 * @example
 * import { readFileSync } from "node:fs";
 * import { NvmeDriver } from "ring3/nvme";
 * import { ReplayDevice } from "ring3/replay";
 * import { parseTrace } from "ring3/trace";
 * import { inProcess } from "ring3/virtual";
 * const device = new ReplayDevice(parseTrace(readFileSync("trace.jsonl", "utf8")));
 * await using fn = inProcess(device);
 * await using nvme = await NvmeDriver.start(fn);
 * device.result.departure; // undefined, or what was expected and what came
 */
export class ReplayDevice extends VirtualFunction {
  readonly #script: Script;
  readonly #options: ReplayOptions;
  #player: Player;
  #told = false;

  /** Throws `REPLAY_INVALID`, and what a function's declaration throws where the recorded one contradicts itself. */
  constructor(trace: Trace, options: ReplayOptions = {}) {
    const script = scriptOf(trace, options.fn);
    super(declarationOf(script.open));
    this.#script = script;
    this.#options = options;
    this.#player = this.#newPlayer();
  }

  /** How the present client does, or how the last one did. */
  get result(): ReplayResult {
    const { made, departure, missing } = this.#player;
    return {
      made,
      accesses: this.#script.accesses,
      departure,
      missing: missing === undefined ? undefined : describe(missing, this.#script),
    };
  }

  protected override read8(bar: BarIndex, offset: number): number {
    return Number(this.#read(bar, offset, 1) ?? 0xff);
  }
  protected override read16(bar: BarIndex, offset: number): number {
    return Number(this.#read(bar, offset, 2) ?? 0xffff);
  }
  protected override read32(bar: BarIndex, offset: number): number {
    return Number(this.#read(bar, offset, 4) ?? 0xffff_ffff);
  }
  protected override read64(bar: BarIndex, offset: number): bigint {
    return BigInt(this.#read(bar, offset, 8) ?? 0xffff_ffff_ffff_ffffn);
  }
  protected override write8(bar: BarIndex, offset: number, value: number): void {
    this.#write({ kind: "write", bar, offset, width: 1, value });
  }
  protected override write16(bar: BarIndex, offset: number, value: number): void {
    this.#write({ kind: "write", bar, offset, width: 2, value });
  }
  protected override write32(bar: BarIndex, offset: number, value: number): void {
    this.#write({ kind: "write", bar, offset, width: 4, value });
  }
  protected override write64(bar: BarIndex, offset: number, value: bigint): void {
    this.#write({ kind: "write", bar, offset, width: 8, value });
  }

  protected override onConnect(): void {
    this.#told = false;
    this.#player = this.#newPlayer();
  }

  protected override onDisconnect(): void {
    this.#options.onEnd?.(this.result);
  }

  protected override onReset(_kind: ResetKind): void {
    if (this.connectedTo !== undefined) this.#player.reset();
  }

  protected override onMap(map: MemoryMap): void {
    this.#player.mappings.mapped(map);
    this.#player.advance();
  }

  protected override onUnmap(map: MemoryMap): void {
    this.#player.mappings.unmapped(map);
  }

  #newPlayer(): Player {
    const player: Player = new Player(
      this.#script,
      this.#options.order ?? "state",
      {
        signal: (interrupt, vector, count) => {
          for (let i = 0; i < count; i++) {
            if (this.interrupts.connected(interrupt, vector)) this.interrupts.trigger(interrupt, vector);
            else this.interrupts.raise(vector);
          }
        },
        write: (_map, iova, bytes) => this.memory.write(iova, bytes),
        later: (act) =>
          inLaterTurn(() => {
            if (this.#player === player) act();
          }),
      },
      (access) => describe(access, this.#script),
    );
    return player;
  }

  #read(bar: BarIndex, offset: number, width: 1 | 2 | 4 | 8): number | bigint | undefined {
    const value = this.#player.read({ kind: "read", bar, offset, width });
    this.#tell();
    return value;
  }

  #write(access: CameAccess): void {
    this.#player.write(access);
    this.#tell();
  }

  #tell(): void {
    const { departure } = this.#player;
    if (departure === undefined || this.#told) return;
    this.#told = true;
    this.#options.onDeparture?.(departure);
    this.fail(new Ring3Error("REPLAY_DEPARTURE", departureText(departure)));
    this.requestRemoval();
  }
}

/** A departure as a sentence. */
export function departureText({ access, expected, came }: Departure): string {
  return `at access ${access} of the recording the driver departs: expected was ${expected}; what came was ${came}`;
}

/** `write bar0 CC = 0x00460001`: names are those of the recording. */
function describe(access: CameAccess | AccessStep, { steps }: Script): string {
  const { kind, bar, offset, width, value } = access;
  const named = steps.find(
    (step) => (step.kind === "read" || step.kind === "write") && step.bar === bar && step.offset === offset,
  );
  const register = named !== undefined && "decoded" in named ? named.decoded?.register : undefined;
  const place = `bar${bar} ${register ?? `+0x${offset.toString(16)}`}`;
  const shown = kind === "read" || value === undefined ? "" : ` = 0x${value.toString(16).padStart(width * 2, "0")}`;
  return `${kind} ${place}${shown}${width === 4 ? "" : ` (${8 * width} bits)`}`;
}
