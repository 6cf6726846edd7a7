// A function's saved state: who it is, config space, interrupts, the memory of its BARs and the model's own record. Pages
// that hold zeros are left out, since most of a large BAR does.
import { Ring3Error } from "../binary/error.ts";
import type { VirtualBar } from "./bars.ts";
import type { StateRecord } from "./state.ts";
import type { StateFields } from "./state-fields.ts";

const PAGE = 4096;

/** What a state must agree with. */
export interface ModelIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly modelVersion: number;
}

export function saveIdentity(model: ModelIdentity): StateRecord {
  const { vendorId, deviceId, modelVersion } = model;
  return { vendorId, deviceId, modelVersion };
}

/** Throws `STATE_MISMATCH` for the state of another model, or of another version of it. */
export function checkIdentity(fields: StateFields, model: ModelIdentity, name: string): void {
  const saved = {
    vendorId: fields.number("vendorId"),
    deviceId: fields.number("deviceId"),
    modelVersion: fields.number("modelVersion"),
  };
  const ids = ({ vendorId, deviceId }: ModelIdentity): string => `${vendorId.toString(16)}:${deviceId.toString(16)}`;
  if (ids(saved) !== ids(model)) {
    throw new Ring3Error("STATE_MISMATCH", `the state belongs to a ${ids(saved)}, and ${name} is a ${ids(model)}`);
  }
  if (saved.modelVersion !== model.modelVersion) {
    throw new Ring3Error(
      "STATE_MISMATCH",
      `the state was saved by model version ${saved.modelVersion} of ${name}, which is version ${model.modelVersion}; ` +
        "restore it with that version",
    );
  }
}

/** Size and memory of each BAR. */
export function saveBars(bars: readonly VirtualBar[]): StateRecord[] {
  return bars.map((bar) => ({
    size: bar.size,
    memory: bar.areas.flatMap(({ offset, size, range }) => runsOf(range.bytes.subarray(0, size), offset)),
  }));
}

function runsOf(bytes: Uint8Array, base: number): StateRecord[] {
  const runs: StateRecord[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (isZero(bytes, at)) {
      at += PAGE;
      continue;
    }
    let end = at + PAGE;
    while (end < bytes.length && !isZero(bytes, end)) end += PAGE;
    runs.push({ offset: base + at, bytes: bytes.slice(at, Math.min(end, bytes.length)) });
    at = end;
  }
  return runs;
}

function isZero(bytes: Uint8Array, start: number): boolean {
  const end = Math.min(start + PAGE, bytes.length);
  for (let at = start; at < end; at++) if (bytes[at] !== 0) return false;
  return true;
}

/** After config space was restored, so that the BARs have their sizes. Throws `STATE_MISMATCH` or `STATE_INVALID`. */
export function restoreBars(bars: readonly VirtualBar[], saved: readonly StateFields[]): void {
  for (const [i, bar] of bars.entries()) {
    const fields = saved[i];
    if (fields === undefined || fields.number("size") !== bar.size) {
      throw new Ring3Error("STATE_MISMATCH", `the state holds another size of BAR ${i} than ${bar.size}`);
    }
    bar.clear();
    for (const run of fields.records("memory", 2 ** 20)) {
      const offset = run.number("offset");
      const bytes = run.bytes("bytes");
      const area = bar.areaAt(offset);
      if (area === undefined || offset + bytes.length > area.offset + area.size) {
        throw new Ring3Error("STATE_INVALID", `the state holds memory at ${offset} of BAR ${i}, where there is none`);
      }
      area.range.bytes.set(bytes, offset - area.offset);
    }
  }
}
