// A workload that notices every lost or misplaced byte: each block carries its number and a version that grows with every
// write to it, and is filled from both. A read must find a version that is not older than the last that was acknowledged,
// or that was read before, nor newer than the last that was issued. Memory is used again as soon as its command is done, so
// that a device that executes an old command once more writes something else, which is found as well.
import assert from "node:assert/strict";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import type { Namespace, NvmeDriver } from "../../packages/ring3/src/drivers/nvme/index.ts";
import type { DmaBuffer } from "../../packages/ring3/src/pci/function.ts";
import { Random } from "../hostile/random.ts";

export const BLOCK_BYTES = 512;
const BLOCK_WORDS = BLOCK_BYTES / 4;
/** Blocks in one command at most. */
const MOST_BLOCKS = 16;

/** What a command may end with where a server died under it: its effect is unknown then. */
const UNDECIDED = new Set(["NVME_COMMAND_LOST", "NVME_TIMEOUT"]);

function mix(block: number, version: number, word: number): number {
  let x = Math.imul(block + 1, 0x9e37_79b1) ^ Math.imul(version, 0x85eb_ca77) ^ Math.imul(word, 0xc2b2_ae3d);
  x = Math.imul(x ^ (x >>> 15), 0x2c1b_3c6d);
  return (x ^ (x >>> 13)) >>> 0;
}

/** Fills a block: its number, its version, then words that follow from both. */
function fill(words: Uint32Array, at: number, block: number, version: number): void {
  words[at] = block;
  words[at + 1] = version;
  for (let i = 2; i < BLOCK_WORDS; i++) words[at + i] = mix(block, version, i);
}

/** The version of a block; 0 where it was never written. Throws where it is not wholly that block's, in one version. */
function versionOf(words: Uint32Array, at: number, block: number): number {
  const version = words[at + 1] as number;
  if (version === 0) {
    for (let i = 0; i < BLOCK_WORDS; i++) assert.equal(words[at + i], 0, `block ${block} holds bytes of no version`);
    return 0;
  }
  assert.equal(words[at], block, `block ${block} holds what was written to another`);
  for (let i = 2; i < BLOCK_WORDS; i++) {
    if (words[at + i] !== mix(block, version, i)) assert.fail(`block ${block} is torn: word ${i} is not of ${version}`);
  }
  return version;
}

export interface WorkloadOptions {
  readonly blocks: number;
  /** Commands in flight. */
  readonly workers: number;
  readonly seed: number;
}

export class Workload {
  readonly blocks: number;
  /** Commands that were completed. */
  completed = 0;
  /** Commands whose end is unknown, which were done again. */
  undecided = 0;
  readonly #workers: number;
  readonly #random: Random;
  readonly #issued: Uint32Array;
  /** Versions that a reader must find, or newer. */
  readonly #certain: Uint32Array;
  #stopping = false;
  #running: Promise<unknown> = Promise.resolve();
  #failure: unknown;
  readonly #failed = Promise.withResolvers<never>();
  #watchers: { readonly at: number; readonly reached: () => void }[] = [];

  constructor({ blocks, workers, seed }: WorkloadOptions) {
    this.blocks = blocks;
    this.#workers = workers;
    this.#random = new Random(seed);
    this.#issued = new Uint32Array(blocks);
    this.#certain = new Uint32Array(blocks);
    this.#failed.promise.catch(() => undefined);
  }

  /** Begins, with all workers; {@link stop} ends it. `memory` hears which buffers the device only fills, and only reads. */
  start(driver: NvmeDriver, memory?: (target: DmaBuffer, source: DmaBuffer) => void): void {
    this.#stopping = false;
    const namespace = driver.namespace(1);
    const workers = Array.from({ length: this.#workers }, async (_, worker) => {
      using source = driver.allocate(MOST_BLOCKS * BLOCK_BYTES);
      using target = driver.allocate(MOST_BLOCKS * BLOCK_BYTES);
      memory?.(target, source);
      while (!this.#stopping) await this.#step(namespace, worker, source, target);
    });
    this.#running = Promise.all(workers).catch((error: unknown) => {
      this.#failure ??= error;
      this.#stopping = true;
      this.#tell();
      this.#failed.reject(error);
    });
  }

  /** Resolves when `count` more commands were completed. Rejects where the workload has failed. */
  async completes(count: number): Promise<void> {
    this.#check();
    await new Promise<void>((reached) => this.#watchers.push({ at: this.completed + count, reached }));
    this.#check();
  }

  /** As `promise`, but rejects where the workload fails before. */
  until<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#failed.promise]);
  }

  /** Lets what is in flight end. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    this.#check();
  }

  /** Reads every block and looks at it. */
  async verify(driver: NvmeDriver): Promise<void> {
    const namespace = driver.namespace(1);
    for (let block = 0; block < this.blocks; block += MOST_BLOCKS) {
      const bytes = await namespace.read(block, Math.min(MOST_BLOCKS, this.blocks - block));
      this.#checkBlocks(new Uint32Array(bytes.buffer), block, bytes.length / BLOCK_BYTES);
    }
  }

  /** Looks at the disk itself. */
  verifyBytes(disk: Uint8Array): void {
    const copy = disk.slice();
    this.#checkBlocks(new Uint32Array(copy.buffer), 0, this.blocks);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  #tell(): void {
    const due = this.#watchers.filter(({ at }) => this.#failure !== undefined || at <= this.completed);
    if (due.length === 0) return;
    this.#watchers = this.#watchers.filter((one) => !due.includes(one));
    for (const { reached } of due) reached();
  }

  async #step(namespace: Namespace, worker: number, source: DmaBuffer, target: DmaBuffer): Promise<void> {
    const random = this.#random;
    const what = random.below(20);
    try {
      if (what === 0) await namespace.flush();
      else if (what < 8) await this.#read(namespace, target);
      else await this.#write(namespace, worker, source);
    } catch (error) {
      if (!isRing3Error(error) || !UNDECIDED.has(error.code)) throw error;
      this.undecided++;
      return;
    }
    this.completed++;
    this.#tell();
  }

  async #read(namespace: Namespace, target: DmaBuffer): Promise<void> {
    const count = 1 + this.#random.below(MOST_BLOCKS);
    const first = this.#random.below(this.blocks - count);
    const certain = this.#certain.slice(first, first + count);
    await namespace.readInto(target, first, count);
    this.#checkBlocks(target.words, first, count, certain);
  }

  /** Each worker has blocks of its own to write: two writes to one block at a time have no order. */
  async #write(namespace: Namespace, worker: number, source: DmaBuffer): Promise<void> {
    const span = Math.floor(this.blocks / this.#workers);
    const count = 1 + this.#random.below(MOST_BLOCKS);
    const first = worker * span + this.#random.below(span - count);
    const versions = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const version = (this.#issued[first + i] as number) + 1;
      this.#issued[first + i] = version;
      versions[i] = version;
      fill(source.words, i * BLOCK_WORDS, first + i, version);
    }
    await namespace.writeFrom(source, first, count);
    for (const [i, version] of versions.entries()) this.#found(first + i, version);
  }

  #checkBlocks(words: Uint32Array, first: number, count: number, certain = this.#certain.subarray(first)): void {
    for (let i = 0; i < count; i++) {
      const block = first + i;
      const version = versionOf(words, i * BLOCK_WORDS, block);
      const least = certain[i] as number;
      const most = this.#issued[block] as number;
      assert.ok(version >= least, `block ${block} holds version ${version}; ${least} was acknowledged`);
      assert.ok(version <= most, `block ${block} holds version ${version}; ${most} is the last that was written`);
      this.#found(block, version);
    }
  }

  #found(block: number, version: number): void {
    if (version > (this.#certain[block] as number)) this.#certain[block] = version;
  }
}
