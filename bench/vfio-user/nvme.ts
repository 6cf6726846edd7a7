// NVMe over vfio-user, driver to device in two processes, both in TypeScript, with doorbells that are mapped: no message
// crosses the socket while reads do. Beside it a driver and a device in C on shared memory, which is what is left when
// everything but the queues is taken away.
import { type ChildProcessByStdio, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { SHARED_SIZE } from "../ring/layout.ts";
import type { Face, NvmeFigure, NvmeOrder } from "./nvme-plan.ts";

export const name = "nvme";
export const title =
  "4 KiB random reads of an NVMe device over vfio-user, driver and device in TypeScript, a core each";

const DEPTHS = [1, 32, 128] as const;
const FACES: Readonly<Record<Face, string>> = { ring: "TypeScript ring", burst: "emitted burst" };
const BACKENDS = ["null", "memory"] as const;
type Backend = (typeof BACKENDS)[number];

/** SPDK's driver and SPDK's target on the machine of docs/benchmarks.md, in thousands a second. */
const SPDK: Readonly<Record<Backend, readonly [number, number, number]>> = {
  null: [590, 1900, 2600],
  memory: [390, 750, 800],
};
const SPDK_NAME = "SPDK to SPDK, measured once";
const C_NAME = "C to C, queues only";
/** Of SPDK's figures, with the null back end, by depth. */
const GOALS: Readonly<Record<number, number>> = { 1: 0.5, 128: 0.3 };
/** A round is so many short turns of each contender: how near the two processors are may change in between. */
const TURNS = 3;
const BATCHES_PER_LINE = 2000;

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  const folder = mkdtempSync(join(tmpdir(), "ring3-nvme-"));
  try {
    const floor = new Floor(folder);
    const measureMs = quick ? 100 : 500;
    const sections: Section[] = [];
    begin();
    for (const backend of BACKENDS) {
      await using disk = await Disk.start(backend, folder);
      progress(`nvme: ${backend}, warming up`);
      for (const face of Object.keys(FACES) as Face[]) {
        // Whatever is measured must have delivered what is on the disk.
        if (backend === "memory") await disk.measure({ face, depth: 128, measureMs: 200, check: true });
        for (const depth of DEPTHS) await disk.measure({ face, depth, measureMs: 1000, check: false });
      }
      for (const [at, depth] of DEPTHS.entries()) {
        const samples: Record<string, number[]> = { [C_NAME]: [], [FACES.burst]: [], [FACES.ring]: [] };
        for (let turn = 0; turn < rounds * TURNS; turn++) {
          if (turn % TURNS === 0) progress(`nvme: ${backend}, depth ${depth}, round ${turn / TURNS + 1} of ${rounds}`);
          if (backend === "null") samples[C_NAME]?.push(await floor.measure(depth, measureMs));
          for (const face of ["burst", "ring"] as const) {
            const { operations, seconds } = await disk.measure({ face, depth, measureMs, check: false });
            samples[FACES[face]]?.push(operations / seconds / 1000);
          }
        }
        sections.push(section(backend, depth, SPDK[backend][at] as number, samples));
      }
    }
    return {
      sections,
      machine: { compiler: execFileSync("cc", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "" },
      notes: [
        `"${SPDK_NAME}": SPDK 26.09-pre, its NVMe driver on its vfio-user target, a core each, on the machine of ` +
          "docs/benchmarks.md; constants, not of this run.",
        `"${C_NAME}": bench/ring's driver and device, which post and complete reads batch by batch, with no controller ` +
          "around the queues.",
        "Driver and device spin on a core each. With fewer than two idle cores the figures say nothing.",
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function section(backend: Backend, depth: number, spdk: number, samples: Readonly<Record<string, number[]>>): Section {
  const measured = Object.entries(samples).filter(([, values]) => values.length > 0);
  const count = measured[0]?.[1].length ?? 0;
  const goal = backend === "null" ? GOALS[depth] : undefined;
  const faces = [FACES.burst, FACES.ring];
  return {
    title: `${backend} back end, depth ${depth}`,
    unit: "thousand reads a second",
    better: "more",
    series: [
      ...measured.map(([who, values]) => ({ name: who, samples: values })),
      { name: SPDK_NAME, samples: Array.from({ length: count }, () => spdk) },
    ],
    comparisons: [
      ...faces.map((of) => ({
        kind: "ratio" as const,
        of,
        to: [SPDK_NAME],
        ...(goal === undefined ? {} : { goal: { at: "least" as const, value: goal } }),
      })),
      ...(backend === "null" ? faces.map((of) => ({ kind: "ratio" as const, of, to: [C_NAME] })) : []),
    ],
  };
}

/** A served NVMe device and its driver, each in a process of its own. */
class Disk implements AsyncDisposable {
  readonly #server: Program;
  readonly #driver: Program;

  private constructor(server: Program, driver: Program) {
    this.#server = server;
    this.#driver = driver;
  }

  static async start(backend: Backend, folder: string): Promise<Disk> {
    const socket = join(folder, `${backend}.sock`);
    const server = await Program.start(process.execPath, [program("serve.bench.ts"), "nvme", backend, socket]);
    try {
      return new Disk(server, await Program.start(process.execPath, [program("nvme-driver.bench.ts"), socket]));
    } catch (error) {
      await server.end();
      throw error;
    }
  }

  async measure(order: NvmeOrder): Promise<NvmeFigure> {
    return JSON.parse(await this.#driver.ask(JSON.stringify(order))) as NvmeFigure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#driver.end();
    await this.#server.end();
  }
}

/** The same queues in C: a device that completes at once, and a driver. */
class Floor {
  readonly #device: string;
  readonly #driver: string;
  readonly #file: string;

  constructor(folder: string) {
    this.#device = compile("device", folder);
    this.#driver = compile("driver", folder);
    this.#file = join(folder, "queues");
  }

  /** Thousand reads a second. */
  async measure(depth: number, measureMs: number): Promise<number> {
    writeFileSync(this.#file, "");
    truncateSync(this.#file, SHARED_SIZE);
    const device = await Program.start(this.#device, [this.#file]);
    try {
      // A line for every few batches: where the processors are busy a fixed number of them could take for ever.
      const driver = spawn(this.#driver, [this.#file, String(depth), String(depth * BATCHES_PER_LINE), "1000000"]);
      const exited = once(driver, "exit");
      const end = performance.now() + measureMs;
      let nanoseconds = 0;
      let lines = 0;
      for await (const line of createInterface(driver.stdout)) {
        nanoseconds += Number(line);
        lines++;
        if (performance.now() > end) break;
      }
      driver.kill("SIGKILL");
      await exited;
      return (1e6 * lines) / nanoseconds;
    } finally {
      await device.end();
    }
  }
}

/** A child process that talks by lines. */
class Program {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #ended: Promise<never>;

  private constructor(command: string, words: readonly string[]) {
    this.#child = spawn(command, words, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface(this.#child.stdout);
    this.#ended = once(this.#child, "exit").then(([code, signal]) => {
      throw new Error(`${words.join(" ")} ended with ${signal ?? code}`);
    });
    this.#ended.catch(() => undefined);
  }

  /** Resolves when it has said that it is ready. */
  static async start(command: string, words: readonly string[]): Promise<Program> {
    const started = new Program(command, words);
    await started.#line();
    return started;
  }

  async ask(line: string): Promise<string> {
    const answer = this.#line();
    this.#child.stdin.write(`${line}\n`);
    return await answer;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended.catch(() => undefined);
  }

  async #line(): Promise<string> {
    const [line] = (await Promise.race([once(this.#lines, "line"), this.#ended])) as [string];
    return line;
  }
}

function program(file: string): string {
  return join(import.meta.dirname, file);
}

function compile(what: string, folder: string): string {
  const output = join(folder, what);
  try {
    const source = join(import.meta.dirname, "..", "ring", `${what}.c`);
    execFileSync("cc", ["-O2", "-Wall", "-o", output, source], { stdio: "pipe" });
  } catch (error) {
    throw new BenchmarkUnavailable(`the peer in C does not compile here: ${String(error)}`);
  }
  return output;
}
