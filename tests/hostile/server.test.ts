// The server and the devices behind it against clients that send anything at all: nothing crashes, blocks or leaks, and no
// device reaches memory that was not mapped for it.
import { test } from "node:test";
import * as fc from "fast-check";
import { sequencesFor } from "./arbitraries.ts";
import { campaign } from "./campaign.ts";
import { DEVICES } from "./device-set.ts";
import { mutatedSequence } from "./mutator.ts";
import { pagesNamedIn, readRecording } from "./recording.ts";
import { FULL, SEED, scaled } from "./scale.ts";

const SEQUENCES_PER_BATCH = 1000;

/** A full run takes minutes: it says at once how far it is. */
function say(line: string): void {
  if (FULL) console.error(line);
}

test(`generated sequences (seed ${SEED})`, async (t) => {
  const arbitraries = DEVICES.map((device) => ({ device, arbitrary: sequencesFor(device) }));
  const report = await campaign(
    SEED,
    scaled(12, 600),
    (index) => {
      const { device, arbitrary } = arbitraries[index % arbitraries.length] as (typeof arbitraries)[number];
      return { device, sequences: fc.sample(arbitrary, { numRuns: SEQUENCES_PER_BATCH, seed: SEED + index }) };
    },
    { progress: say },
  );
  t.diagnostic(JSON.stringify(report));
});

test(`generated sequences at functions that a client has that behaves (seed ${SEED})`, async (t) => {
  const arbitraries = DEVICES.map((device) => ({ device, arbitrary: sequencesFor(device) }));
  const report = await campaign(
    SEED + 1,
    scaled(5, 300),
    (index) => {
      const { device, arbitrary } = arbitraries[index % arbitraries.length] as (typeof arbitraries)[number];
      return { device, sequences: fc.sample(arbitrary, { numRuns: SEQUENCES_PER_BATCH, seed: SEED - index }) };
    },
    { progress: say, companion: true },
  );
  t.diagnostic(JSON.stringify(report));
});

test(`recorded sessions of QEMU, changed here and there (seed ${SEED})`, async (t) => {
  const recording = readRecording();
  const devices = [...new Set(recording.map(({ device }) => device))];
  const report = await campaign(
    SEED,
    scaled(10, 450),
    (index, random) => {
      const device = devices[index % devices.length] as string;
      const sessions = recording.filter((session) => session.device === device);
      const sequences = Array.from({ length: SEQUENCES_PER_BATCH }, () => mutatedSequence(sessions, random));
      return { device, sequences };
    },
    { progress: say, ramPages: pagesNamedIn(recording) },
  );
  t.diagnostic(JSON.stringify(report));
});
