// The saved form of a config space: what is needed to tell that it belongs to the same declaration, the bytes, and the
// state of capabilities beside their registers. Nothing is taken over before all of it was checked.
import { Ring3Error } from "../binary/error.ts";
import type { CapabilityState } from "./capability-builder.ts";
import { type ConfigBits, get, isBarByte, put } from "./config-bits.ts";

/** "r3cs", then the version of this form. */
const MAGIC = 0x7363_3372;
const VERSION = 1;
const HEAD = 20;

/** Head (magic, version, extent, fingerprint, number of states), bytes, then each state with its length before it. */
export function saveConfig(bits: ConfigBits, states: readonly CapabilityState[], shapes: string): Uint8Array {
  const parts = states.map((state) => state.save());
  const size = parts.reduce((sum, part) => sum + 4 + part.length, HEAD + bits.extent);
  const bytes = new Uint8Array(size);
  const head = [MAGIC, VERSION, bits.extent, bits.fingerprint(shapes), parts.length];
  for (const [index, word] of head.entries()) put(bytes, 4 * index, 4, word);
  bytes.set(bits.live, HEAD);
  let at = HEAD + bits.extent;
  for (const part of parts) {
    put(bytes, at, 4, part.length);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}

/** Takes over what {@link saveConfig} gave. Throws `STATE_MISMATCH` or `STATE_INVALID`. */
export function restoreConfig(
  bits: ConfigBits,
  states: readonly CapabilityState[],
  shapes: string,
  bytes: Uint8Array,
): void {
  const word = (index: number): number => get(bytes, 4 * index, 4);
  const invalid = (reason: string): Ring3Error => new Ring3Error("STATE_INVALID", `the saved config space ${reason}`);
  if (bytes.length < HEAD || word(0) !== MAGIC) throw invalid("is none: it does not begin as one does");
  if (word(1) !== VERSION)
    throw new Ring3Error("STATE_MISMATCH", `the saved config space has the form ${word(1)}, not 1`);
  if (word(2) !== bits.extent || word(3) !== bits.fingerprint(shapes) || word(4) !== states.length) {
    throw new Ring3Error("STATE_MISMATCH", "the saved config space belongs to another declaration of the function");
  }
  if (bytes.length < HEAD + bits.extent) throw invalid("is cut short");
  const live = bytes.subarray(HEAD, HEAD + bits.extent);
  for (let at = 0; at < bits.extent; at++) {
    if (isBarByte(at)) continue;
    if ((((live[at] ?? 0) ^ (bits.initial[at] ?? 0)) & ~(bits.variable[at] ?? 0) & 0xff) !== 0) {
      throw invalid(`changes bits at 0x${at.toString(16)} that never change`);
    }
  }
  const parts: Uint8Array[] = [];
  let at = HEAD + bits.extent;
  for (const state of states) {
    const length = get(bytes, at, 4);
    if (at + 4 + length > bytes.length) throw invalid("is cut short");
    const part = bytes.slice(at + 4, at + 4 + length);
    state.check(part);
    parts.push(part);
    at += 4 + length;
  }
  if (at !== bytes.length) throw invalid("has more bytes than it should");
  bits.live.set(live);
  for (const [index, state] of states.entries()) state.restore(parts[index] ?? new Uint8Array());
}
