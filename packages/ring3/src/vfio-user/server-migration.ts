// The migration state machine (enum vfio_device_mig_state of linux/vfio.h) over a function's save and restore. The data is
// a stream of records: who the device is first, so that a target of another model refuses before anything is stopped, then
// its state.
import { concatenate } from "../binary/concatenate.ts";
import { Ring3Error } from "../binary/error.ts";
import { struct, u32 } from "../binary/struct.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { MigrationState } from "./messages.ts";
import { refusal } from "./server-refusal.ts";

const { ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY } = MigrationState;

const RecordHeader = struct("ring3_migration_record", 12, { magic: [0, u32], kind: [4, u32], size: [8, u32] });
const MAGIC = 0x334d_4752;
const RecordKind = { MODEL: 1, STATE: 2 } as const;
const Model = struct("ring3_migration_model", 12, { vendorId: [0, u32], deviceId: [4, u32], modelVersion: [8, u32] });
/** Bytes of state that are taken at most. */
const MAXIMUM_STREAM_BYTES = 2 ** 28;
const SUSPEND_MS = 4000;

/** The arcs that are steps of their own; all others are paths of them. */
const ARCS: Readonly<Record<number, readonly number[]>> = {
  [RUNNING]: [STOP, PRE_COPY],
  [STOP]: [RUNNING, STOP_COPY, RESUMING],
  [STOP_COPY]: [STOP],
  [RESUMING]: [STOP],
  [PRE_COPY]: [RUNNING, STOP_COPY],
};

export class ServerMigration {
  readonly #fn: VirtualFunction;
  #state: number = RUNNING;
  /** What is still to be read of the stream. */
  #outgoing: Uint8Array = new Uint8Array(0);
  #outgoingAt = 0;
  /** Grows with what comes, in whole: a client that sends byte by byte costs no more than another. */
  #incoming: Uint8Array = new Uint8Array(0);
  #incomingBytes = 0;
  #modelChecked = false;
  /** Steps that are under way. */
  #steps = 0;

  constructor(fn: VirtualFunction) {
    this.#fn = fn;
  }

  get state(): number {
    return this.#state;
  }

  /** Whether the device is in any other state than at work, or on its way there. */
  get moving(): boolean {
    return this.#state !== RUNNING || this.#steps > 0;
  }

  /** Moves to `wanted` over the shortest path. Throws `EINVAL` where there is none; the state is where it stopped. */
  async set(wanted: number): Promise<void> {
    if (!(wanted in ARCS)) throw refusal("EINVAL", `no state ${wanted} can be asked for`);
    if (this.#state === ERROR) throw refusal("EINVAL", "the device is in the state ERROR: reset it");
    // Refused by name: the way over STOP and RUNNING would start the device.
    const path = this.#state === STOP_COPY && wanted === PRE_COPY ? undefined : shortestPath(this.#state, wanted);
    if (path === undefined) throw refusal("EINVAL", `no way leads from state ${this.#state} to ${wanted}`);
    this.#steps++;
    try {
      for (const next of path) await this.#step(next);
    } finally {
      this.#steps--;
    }
  }

  /** The next bytes of the stream, `size` at most; fewer where it ends. */
  read(size: number): Uint8Array {
    if (this.#state !== STOP_COPY && this.#state !== PRE_COPY) {
      throw refusal("EINVAL", "there is migration data in the states PRE_COPY and STOP_COPY");
    }
    const bytes = this.#outgoing.subarray(this.#outgoingAt, this.#outgoingAt + size);
    this.#outgoingAt += bytes.length;
    return bytes;
  }

  write(bytes: Uint8Array): void {
    if (this.#state !== RESUMING) throw refusal("EINVAL", "migration data is taken in the state RESUMING");
    const end = this.#incomingBytes + bytes.length;
    if (end > MAXIMUM_STREAM_BYTES) throw refusal("ENOSPC", "too much migration data");
    if (end > this.#incoming.length) {
      const larger = new Uint8Array(Math.min(MAXIMUM_STREAM_BYTES, Math.max(end, 2 * this.#incoming.length, 65_536)));
      larger.set(this.#gathered());
      this.#incoming = larger;
    }
    this.#incoming.set(bytes, this.#incomingBytes);
    this.#incomingBytes = end;
    if (!this.#modelChecked && this.#incomingBytes >= RecordHeader.size + Model.size) {
      this.#checkModel(this.#gathered());
      this.#modelChecked = true;
    }
  }

  /** After a reset of the device: it runs, whatever was under way. */
  reset(): void {
    this.#endStream();
    if (this.#state === RUNNING) return;
    this.#state = RUNNING;
    this.#fn.resume();
  }

  async #step(next: number): Promise<void> {
    const from = this.#state;
    if (next === STOP && from === RESUMING) this.#takeState();
    if (next === STOP && from === RUNNING) await this.#suspend();
    if (next === RUNNING && from === STOP) this.#fn.resume();
    if (next === STOP || next === RUNNING) this.#endStream();
    if (next === PRE_COPY) this.#begin(this.#modelRecord());
    if (next === STOP_COPY) {
      if (from === PRE_COPY) await this.#suspend();
      const unread = from === PRE_COPY ? this.#outgoing.subarray(this.#outgoingAt) : this.#modelRecord();
      this.#begin(concatenate([unread, record(RecordKind.STATE, this.#fn.save())]));
    }
    this.#state = next;
  }

  /** Clients wait for five seconds at most. */
  async #suspend(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = refusal("ETIMEDOUT", `the device did not finish what is under way in ${SUSPEND_MS} ms`);
      timer = setTimeout(() => reject(error), SUSPEND_MS);
    });
    try {
      await Promise.race([this.#fn.suspend(), late]);
    } catch (error) {
      this.#state = ERROR;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(stream: Uint8Array): void {
    this.#outgoing = stream;
    this.#outgoingAt = 0;
  }

  #endStream(): void {
    this.#begin(new Uint8Array(0));
    this.#incoming = new Uint8Array(0);
    this.#incomingBytes = 0;
    this.#modelChecked = false;
  }

  #modelRecord(): Uint8Array {
    const { vendorId, deviceId, modelVersion = 1 } = this.#fn.identity;
    return record(RecordKind.MODEL, Model.bytes({ vendorId, deviceId, modelVersion }));
  }

  #gathered(): Uint8Array {
    return this.#incoming.subarray(0, this.#incomingBytes);
  }

  #checkModel(stream: Uint8Array): Uint8Array {
    const { body, rest } = takeRecord(stream, RecordKind.MODEL);
    const { vendorId, deviceId, modelVersion } = Model.from(body);
    const own = this.#fn.identity;
    if (vendorId !== own.vendorId || deviceId !== own.deviceId || modelVersion !== (own.modelVersion ?? 1)) {
      throw new Ring3Error(
        "STATE_MISMATCH",
        `the data is of ${hex(vendorId)}:${hex(deviceId)} version ${modelVersion}, this is ${hex(own.vendorId)}:` +
          `${hex(own.deviceId)} version ${own.modelVersion ?? 1}`,
        { errno: "EINVAL" },
      );
    }
    return rest;
  }

  /** A device that cannot take its state is as after power-on, and stopped. */
  #takeState(): void {
    try {
      const { body, rest } = takeRecord(this.#checkModel(this.#gathered()), RecordKind.STATE);
      if (rest.length !== 0) throw refusal("EINVAL", `${rest.length} bytes follow the state`);
      this.#fn.restore(body);
    } catch (error) {
      this.#endStream();
      this.#state = ERROR;
      throw error;
    }
  }
}

function shortestPath(from: number, to: number): readonly number[] | undefined {
  if (from === to) return [];
  const paths: number[][] = [[from]];
  for (const path of paths) {
    const at = path.at(-1) as number;
    // States that save are no way stations.
    if (path.length > 1 && (at === PRE_COPY || at === STOP_COPY)) continue;
    for (const next of ARCS[at] ?? []) {
      if (next === to) return [...path.slice(1), next];
      if (!path.includes(next)) paths.push([...path, next]);
    }
  }
  return undefined;
}

function record(kind: number, body: Uint8Array): Uint8Array {
  return concatenate([RecordHeader.bytes({ magic: MAGIC, kind, size: body.length }), body]);
}

function takeRecord(stream: Uint8Array, kind: number): { body: Uint8Array; rest: Uint8Array } {
  if (stream.length < RecordHeader.size) throw refusal("EINVAL", "the migration data is incomplete");
  const header = RecordHeader.from(stream);
  if (header.magic !== MAGIC || header.kind !== kind) throw refusal("EINVAL", "this is no migration data of ring3");
  const end = RecordHeader.size + header.size;
  if (stream.length < end) throw refusal("EINVAL", "the migration data is incomplete");
  return { body: stream.subarray(RecordHeader.size, end), rest: stream.subarray(end) };
}

function hex(id: number): string {
  return id.toString(16).padStart(4, "0");
}
