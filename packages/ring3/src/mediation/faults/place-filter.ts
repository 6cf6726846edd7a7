// Which accesses a fault means: names are looked up once, in the register map and among the function's capabilities.
import { Ring3Error } from "../../binary/error.ts";
import type { AccessDecoder } from "../trace/decoder.ts";
import type { Area } from "../tap/tap.ts";
import type { FaultPlace } from "./plan.ts";

export type PlaceFilter = (area: Area, op: "read" | "write", offset: number, size: number) => boolean;

/** Throws `FAULT_PLAN` for a register that the function has not. */
export function placeFilter(place: FaultPlace, decoder: AccessDecoder): PlaceFilter {
  const { space = "bar", bar, op, register, offset, size = 4 } = place;
  const ranges: { bar: number; start: number; end: number }[] = [];
  if (register !== undefined) {
    const found = decoder
      .find(space, register)
      .filter((one) => bar === undefined || space === "config" || one.bar === bar);
    if (found.length === 0) {
      const known = decoder.describes(space) ? "" : "; no register map is known for this function: give an offset";
      throw new Ring3Error("FAULT_PLAN", `there is no ${space} register "${register}"${known}`);
    }
    for (const one of found) ranges.push({ bar: one.bar, start: one.offset, end: one.offset + one.width });
  } else if (offset !== undefined) {
    ranges.push({ bar: bar ?? 0, start: offset, end: offset + size });
  }
  return (area, kind, at, count) => {
    if (area.space !== space || (op !== undefined && op !== kind)) return false;
    if (space === "bar" && bar !== undefined && area.bar !== bar) return false;
    if (ranges.length === 0) return true;
    return ranges.some(
      (range) => (space === "config" || range.bar === area.bar) && at < range.end && range.start < at + count,
    );
  };
}
