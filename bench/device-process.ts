// A device in C on the other side of shared memory, as several benchmarks have it: compiled once, started anew for each
// measurement, and a driver in C on the same memory as the peer.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { createMemoryFile, DeviceWindow, defaultArena } from "../packages/ring3/src/linux/index.ts";
import type { Arena } from "../packages/ring3/src/memory/arena.ts";
import { compilePeer } from "./c-peer.ts";

/** The programs, and the memory that they are given as their first argument. */
export interface DevicePlan {
  /** Where the sources lie. */
  readonly folder: string;
  /** Names of two of them, without `.c`: the device prints a line once it is ready, and ends when it is told to. */
  readonly device: string;
  readonly driver: string;
  readonly sharedBytes: number;
  /** Bytes from the start on that a fresh device finds zeroed. */
  readonly freshBytes: number;
  /** Where a 1 tells the device to end. */
  readonly stopOffset: number;
  /** What both programs get behind their other arguments. */
  readonly kind?: string;
  /** A descriptor that both programs find as number 3. */
  readonly descriptor?: number;
}

export class DeviceProcess implements Disposable {
  readonly arena: Arena;
  /** The shared memory. */
  readonly window: DeviceWindow;
  readonly words: Uint32Array;
  readonly #plan: DevicePlan;
  readonly #owned: DisposableStack;
  readonly #device: string;
  readonly #driver: string;
  readonly #path: string;
  #child: ChildProcess | undefined;

  /** Throws `BenchmarkUnavailable` where there is no compiler. */
  constructor(plan: DevicePlan) {
    using owned = new DisposableStack();
    const folder = owned.adopt(mkdtempSync(join(tmpdir(), "ring3-bench-")), (path) => {
      rmSync(path, { recursive: true, force: true });
    });
    this.#plan = plan;
    this.#device = compilePeer(join(plan.folder, `${plan.device}.c`), folder);
    this.#driver = compilePeer(join(plan.folder, `${plan.driver}.c`), folder);
    this.arena = defaultArena();
    const file = owned.use(createMemoryFile(plan.sharedBytes));
    this.window = owned.use(DeviceWindow.map(this.arena, file, 0, plan.sharedBytes));
    this.words = this.arena.words(this.window.arenaOffset, plan.sharedBytes / 4);
    this.#path = `/proc/${process.pid}/fd/${file.number}`;
    this.#owned = owned.move();
  }

  get #kind(): readonly string[] {
    return this.#plan.kind === undefined ? [] : [this.#plan.kind];
  }

  /** The compiler that made the programs. */
  get compiler(): string {
    return execFileSync("cc", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "";
  }

  /** The process of the device that `against` has started. */
  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("no device runs now");
    return pid;
  }

  /** Starts a fresh device, measures, and ends the device. Rejects where the device ends before. */
  async against<T>(measure: () => T | Promise<T>): Promise<T> {
    const { freshBytes, stopOffset, descriptor } = this.#plan;
    this.words.fill(0, 0, freshBytes / 4);
    const child = spawn(this.#device, [this.#path, ...this.#kind], {
      stdio: ["ignore", "pipe", "inherit", descriptor ?? "ignore"],
    });
    this.#child = child;
    const exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
    const died = exited.then(([code, signal]): never => {
      throw new Error(`the device process ended with ${signal ?? code}`);
    });
    // It ends in any case, mostly after the measurement.
    died.catch(() => undefined);
    try {
      await Promise.race([once(child.stdout as Readable, "data"), died]);
      return await Promise.race([measure(), died]);
    } finally {
      Atomics.store(this.words, stopOffset / 4, 1);
      await exited;
    }
  }

  /** What the driver in C prints about the device that runs. */
  inC(...words: readonly (string | number)[]): string {
    return execFileSync(this.#driver, [this.#path, ...words.map(String), ...this.#kind], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit", this.#plan.descriptor ?? "ignore"],
    });
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
