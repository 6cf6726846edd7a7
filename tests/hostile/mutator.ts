// Sequences out of recorded sessions of QEMU: a piece of a session, with bytes, sizes and the order of messages changed.

import type { Random } from "./random.ts";
import type { RecordedFrame, RecordedSession } from "./recording.ts";
import { type DescriptorKind, FIRST_MARKER, HEADER_BYTES, type Manners, type Sequence, type Step } from "./sequence.ts";

const MAXIMUM_STEPS = 24;
const EDGES = [0, 1, 2, 4, 7, 8, 16, 0xff, 0x1000, 0xffff, 0x10000, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 4096] as const;
const MANNERS: readonly Manners[] = ["honest", "honest", "honest", "honest", "honest", "lying", "silent"];
const STRANGE: readonly DescriptorKind[] = ["null", "unsealed", "pipe-write", "read-only", "own-socket", "directory"];

function stepOf({ bytes, fds }: RecordedFrame): Step {
  return { bytes, fds: fds.map((kind) => (kind === "m" ? "ram" : "event")) };
}

function mutated(step: Step, random: Random, others: readonly RecordedFrame[]): Step {
  let bytes = Uint8Array.from(step.bytes);
  let fds = step.fds;
  let cuts: readonly number[] | undefined;
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    // Headers are spared mostly: with a wrong size nothing that follows is looked at.
    const first = random.oneIn(12) ? 0 : HEADER_BYTES;
    const room = bytes.length - first;
    const view = new DataView(bytes.buffer);
    const kind = random.below(9);
    if (kind <= 1 && room > 0) {
      const at = first + random.below(room);
      bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    } else if (kind <= 3 && room >= 4) {
      view.setUint32(first + 4 * random.below(room >>> 2), random.pick(EDGES), true);
    } else if (kind === 4 && room >= 8) {
      const at = first + 8 * random.below(room >>> 3);
      view.setBigUint64(at, (1n << BigInt(random.below(64))) - BigInt(random.below(3)), true);
    } else if (kind === 5) {
      const from = random.pick(others).bytes;
      bytes = Uint8Array.from([...bytes.subarray(0, HEADER_BYTES), ...from.subarray(HEADER_BYTES)]);
      new DataView(bytes.buffer).setUint32(4, bytes.length, true);
    } else if (kind === 6) {
      const size = HEADER_BYTES + random.below(Math.max(1, bytes.length - HEADER_BYTES));
      bytes = bytes.slice(0, size);
      new DataView(bytes.buffer).setUint32(4, size, true);
    } else if (kind === 7) {
      fds = random.oneIn(2) ? [] : [...fds, random.pick(STRANGE)];
    } else cuts = [1 + random.below(Math.max(1, bytes.length - 1))];
  }
  if (bytes.length >= 2) {
    const view = new DataView(bytes.buffer);
    if (view.getUint16(0, true) >= FIRST_MARKER) view.setUint16(0, 1, true);
  }
  return cuts === undefined ? { bytes, fds } : { bytes, fds, cuts };
}

/** A piece of one of `sessions`, changed here and there. */
export function mutatedSequence(sessions: readonly RecordedSession[], random: Random): Sequence {
  const { frames } = random.pick(sessions);
  const length = 1 + random.below(MAXIMUM_STEPS);
  const start = random.below(Math.max(1, frames.length - length));
  const steps: Step[] = [];
  // Now and then what went before, so that the device is as far as it was: maps, enabling, addresses of queues.
  if (random.oneIn(25)) steps.push(...frames.slice(1, Math.min(start, 300)).map(stepOf));
  for (const recorded of frames.slice(start, start + length)) {
    const choice = random.below(24);
    const step = stepOf(recorded);
    if (choice === 0) continue;
    if (choice === 1) steps.push(step, step);
    else if (choice === 2) steps.splice(random.below(steps.length + 1), 0, step);
    else steps.push(random.oneIn(4) ? mutated(step, random, frames) : step);
  }
  return { steps, manners: random.pick(MANNERS), ...(random.oneIn(400) ? { truncates: true } : {}) };
}
