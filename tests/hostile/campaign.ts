// Runs batches of hostile sequences against a serving process, and looks after each whether anything is left of them.
import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { messageOf } from "ring3/binary";
import { Attacker, type AttackerCounts } from "./attacker.ts";
import { Bystander } from "./bystander.ts";
import { Companion } from "./companion.ts";
import { DescriptorSupply } from "./descriptor-supply.ts";
import { putDeviceData, putDriverData } from "./driver-data.ts";
import { GuardedMemory, IOVA_BASE, WRITABLE } from "./guarded-memory.ts";
import { Random } from "./random.ts";
import type { Sequence } from "./sequence.ts";
import type { Health } from "./served-devices.ts";
import { Serving } from "./serving.ts";

const MIB = 2 ** 20;
const PATIENCE_MS = 15_000;
/** The client's time-out, and what a loaded machine adds. */
const BYSTANDER_BOUND_MS = 5000;
const CLIENT_TIMEOUT_MS = 10;
/** Batches until caches and pools have the size that they keep. */
const WARM_UP = 4;
const GROWTH_BYTES = { heap: 24 * MIB, resident: 160 * MIB } as const;

export interface CampaignReport extends AttackerCounts {
  /** DMA that devices were refused, and other complaints of theirs. */
  readonly faults: number;
  readonly worstBystanderMs: number;
  readonly residentMiB: readonly number[];
  readonly heapMiB: readonly number[];
}

export interface CampaignOptions {
  readonly progress?: (line: string) => void;
  /** Pages of the large file that hold what a driver would leave there. */
  readonly ramPages?: readonly number[];
  /** Whether a client that behaves is at the function that is attacked. */
  readonly companion?: boolean;
}

/** `batch` gives the sequences of each batch and the device that they are for. */
export async function campaign(
  seed: number,
  batches: number,
  batch: (index: number, random: Random) => { readonly device: string; readonly sequences: readonly Sequence[] },
  { progress = () => undefined, ramPages = [], companion = false }: CampaignOptions = {},
): Promise<CampaignReport> {
  const random = new Random(seed);
  await using serving = await Serving.start({ clientTimeoutMs: CLIENT_TIMEOUT_MS, openings: companion ? 2 : 1 });
  using memory = new GuardedMemory(random);
  using supply = new DescriptorSupply(memory.fd, (ram) => {
    for (const page of ramPages) {
      const bytes = new Uint8Array(4096);
      putDriverData(bytes, random, page);
      writeSync(ram.number, bytes, 0, bytes.length, page);
    }
  });
  using bystander = new Bystander(serving.socket("bystander"), BYSTANDER_BOUND_MS);
  const before = await serving.idle(1);
  const total: AttackerCounts = {
    sequences: 0,
    messages: 0,
    connections: 0,
    replies: 0,
    errors: 0,
    commandsFromServer: 0,
  };
  const history: Health[] = [];
  let faults = 0;
  for (let index = 0; index < batches; index++) {
    const { device, sequences } = batch(index, random);
    const where = `seed ${seed}, batch ${index} (${device})`;
    const scribble = (): void => putDeviceData(device, memory.writable, random, IOVA_BASE + WRITABLE.offset);
    scribble();
    const attacker = new Attacker({
      path: serving.socket(device),
      random,
      supply,
      bystander,
      patienceMs: PATIENCE_MS,
      scribble,
    });
    try {
      runBeside(companion ? serving.socket(device) : undefined, () => attacker.run(sequences));
      memory.check();
      const health = await serving.idle(1);
      assert.deepEqual(health.failures, [], "a model threw something that is no refusal");
      assert.equal(health.maps, 0, "maps are left");
      assert.deepEqual(health.dirty, [], "functions that nobody uses are not as new");
      assert.deepEqual(health.descriptors, before.descriptors, "descriptors are left");
      history.push(health);
      faults = health.faults;
    } catch (error) {
      // A process that dies says so a moment later.
      await new Promise((resolve) => setTimeout(resolve, 200));
      const what = serving.ended ?? messageOf(error);
      throw new Error(`${where}: ${what}\nlast sequences:\n${attacker.report()}`, { cause: error });
    }
    for (const name of Object.keys(total) as (keyof AttackerCounts)[]) total[name] += attacker.counts[name];
    if (index % 50 === 49) {
      const { residentBytes, heapBytes } = history.at(-1) as Health;
      progress(
        `${total.sequences} sequences, ${total.messages} messages, resident ${Math.round(residentBytes / MIB)} MiB, ` +
          `heap ${Math.round(heapBytes / MIB)} MiB, bystander at worst ${Math.round(bystander.worstMs)} ms`,
      );
    }
  }
  assert.ok(bystander.answers > 0);
  checkPlateau(history, seed);
  return {
    ...total,
    faults,
    worstBystanderMs: bystander.worstMs,
    residentMiB: history.map(({ residentBytes }) => Math.round(residentBytes / MIB)),
    heapMiB: history.map(({ heapBytes }) => Math.round(heapBytes / MIB)),
  };
}

/** Runs with a client that behaves at the function that is attacked, where there is a path to it. */
function runBeside(path: string | undefined, run: () => void): void {
  using companion = path === undefined ? undefined : new Companion(path);
  run();
  companion?.leave();
}

/** What is in use after the last batches is no more than after the first, give or take what an allocator keeps. */
function checkPlateau(history: readonly Health[], seed: number): void {
  if (history.length < 3 * WARM_UP) return;
  const third = Math.floor((history.length - WARM_UP) / 3);
  const early = history.slice(WARM_UP, WARM_UP + third);
  const late = history.slice(-third);
  const least = (of: readonly Health[], name: "heapBytes" | "residentBytes"): number =>
    Math.min(...of.map((health) => health[name]));
  for (const [name, bound] of [
    ["heapBytes", GROWTH_BYTES.heap],
    ["residentBytes", GROWTH_BYTES.resident],
  ] as const) {
    const grown = least(late, name) - least(early, name);
    assert.ok(
      grown < bound,
      `seed ${seed}: ${name} grew by ${Math.round(grown / MIB)} MiB over ${history.length} batches`,
    );
  }
}
