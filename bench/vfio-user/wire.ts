// vfio-user message by message: a client in C that blocks, as QEMU's does, against ring3's server and against a server in
// C that answers with one recvmsg and one send; and ring3's client against ring3's server.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BenchmarkContext, type BenchmarkResult, BenchmarkUnavailable, type Section } from "../benchmark.ts";
import { MEMORY, REGISTERS } from "./device.ts";

export const name = "wire";
export const title = "vfio-user messages, against a bare recvmsg and send in C";

const FUNCTIONS = 1000;
const MOST_MAPS = 65_535;
const WARMING_MAPS = 10_000;
const MEBIBYTE = 2 ** 20;

const RESIDENT = `resident, each of ${FUNCTIONS} served functions`;
const HEAP = "heap and external, each of them";

/** What each round gives, by name. */
type Samples = Record<string, number[]>;

export async function run({ rounds, quick, progress, begin }: BenchmarkContext): Promise<BenchmarkResult> {
  const folder = mkdtempSync(join(tmpdir(), "ring3-wire-"));
  try {
    const wire = compile(folder);
    const reads = quick ? 5_000 : 50_000;
    const bulk = quick ? 50 : 500;
    const samples: Samples = {};
    const add = (series: string, value: number | undefined): void => {
      samples[series] ??= [];
      samples[series].push(value ?? Number.NaN);
    };
    begin();
    for (let round = 0; round < rounds; round++) {
      progress(`wire: round ${round + 1} of ${rounds}`);
      {
        await using peer = await Peer.start(wire, ["echo", join(folder, "echo.sock")]);
        const [p50, p99] = peer.measure(wire, "reads", reads);
        add("read p50, C echo", p50);
        add("read p99, C echo", p99);
      }
      {
        await using peer = await Peer.start(wire, ["echo", join(folder, "echo.sock")]);
        add("posted writes, C echo", peer.measure(wire, "writes", reads * 4, REGISTERS)[0]);
      }
      {
        await using peer = await Peer.start(wire, ["echo", join(folder, "echo.sock")]);
        add("1 MiB reads, C echo", (peer.measure(wire, "bulk", bulk, MEMORY)[0] ?? 0) / MEBIBYTE);
      }
      {
        await using peer = await Peer.served(join(folder, "ring3.sock"));
        const [p50, p99] = peer.measure(wire, "reads", reads);
        add("read p50, ring3's server", p50);
        add("read p99, ring3's server", p99);
        add("posted writes, ring3's server", peer.measure(wire, "writes", reads * 4, REGISTERS)[0]);
        add("1 MiB reads, ring3's server", (peer.measure(wire, "bulk", bulk, MEMORY)[0] ?? 0) / MEBIBYTE);
        // A thousand maps are over before V8 has compiled what they run through.
        peer.measure(wire, "maps", WARMING_MAPS);
        for (const count of [1000, quick ? 5000 : MOST_MAPS]) {
          const [, map, unmap] = peer.measure(wire, "maps", count);
          add(`map, the last 1000 of ${count}`, map);
          add(`unmap, of ${count}`, unmap);
        }
        const own = execFileSync(process.execPath, [program("client.bench.ts"), peer.socket, String(reads)]);
        const [ownP50, ownP99] = numbers(own.toString());
        add("read p50, ring3 to ring3", ownP50);
        add("read p99, ring3 to ring3", ownP99);
      }
      const many = execFileSync(
        process.execPath,
        ["--expose-gc", program("serve.bench.ts"), "many", String(FUNCTIONS), folder],
        { encoding: "utf8" },
      );
      const [resident, heap] = numbers(many);
      add(RESIDENT, (resident ?? Number.NaN) / 1024);
      add(HEAP, (heap ?? Number.NaN) / 1024);
    }
    return {
      sections: sections(samples, quick),
      machine: {},
      notes: [
        "Reads are of 4 bytes of config space. The client in C blocks in recv, as QEMU does. The echo in C looks at nothing " +
          "but sizes and flags, and delivers zeros.",
        "Maps are judged by the last 1000 of so many, after others have warmed the server up.",
      ],
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function sections(samples: Samples, quick: boolean): Section[] {
  const series = (...names: string[]) => names.map((one) => ({ name: one, samples: samples[one] ?? [] }));
  const most = (value: number) => ({ at: "most", value }) as const;
  const maps = [1000, quick ? 5000 : MOST_MAPS];
  return [
    {
      title: "4-byte REGION_READ",
      unit: "microseconds",
      better: "less",
      series: series(
        ...["p50", "p99"].flatMap((q) =>
          ["C echo", "ring3's server", "ring3 to ring3"].map((who) => `read ${q}, ${who}`),
        ),
      ),
      comparisons: [
        { kind: "ratio", of: "read p50, ring3's server", to: ["read p50, C echo"], goal: most(1.2) },
        { kind: "ratio", of: "read p99, ring3's server", to: ["read p99, C echo"], goal: most(1.5) },
        { kind: "ratio", of: "read p50, ring3 to ring3", to: ["read p50, C echo"] },
        { kind: "ratio", of: "read p99, ring3 to ring3", to: ["read p99, C echo"] },
      ],
    },
    {
      title: "posted 4-byte writes",
      unit: "a second",
      better: "more",
      series: series("posted writes, C echo", "posted writes, ring3's server"),
      comparisons: [{ kind: "ratio", of: "posted writes, ring3's server", to: ["posted writes, C echo"] }],
    },
    {
      title: "1 MiB REGION_READ of memory",
      unit: "MiB/s",
      better: "more",
      series: series("1 MiB reads, C echo", "1 MiB reads, ring3's server"),
      comparisons: [{ kind: "ratio", of: "1 MiB reads, ring3's server", to: ["1 MiB reads, C echo"] }],
    },
    {
      title: "DMA_MAP and DMA_UNMAP of pages, one message each",
      unit: "microseconds",
      better: "less",
      series: series(...maps.flatMap((count) => [`map, the last 1000 of ${count}`, `unmap, of ${count}`])),
      comparisons: maps.map((count) => ({
        kind: "value",
        of: `map, the last 1000 of ${count}`,
        to: [],
        // A thousand maps are over before V8 has compiled their way: shown, not judged.
        ...(count > 1000 ? { goal: most(30) } : {}),
      })),
    },
    {
      title: "memory",
      unit: "KiB",
      better: "less",
      series: series(RESIDENT, HEAP),
      comparisons: [
        { kind: "value", of: RESIDENT, to: [], goal: most(100) },
        { kind: "value", of: HEAP, to: [] },
      ],
    },
  ];
}

/** A server in a process of its own. */
class Peer implements AsyncDisposable {
  readonly socket: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, socket: string) {
    this.#child = child;
    this.socket = socket;
  }

  static served(socket: string): Promise<Peer> {
    return Peer.start(process.execPath, [program("serve.bench.ts"), "wire", socket]);
  }

  static async start(command: string, words: readonly string[]): Promise<Peer> {
    const child = spawn(command, words, { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit").then(([code]) => {
      throw new Error(`${words.join(" ")} ended with ${code}`);
    });
    exited.catch(() => undefined);
    await Promise.race([once(child.stdout, "data"), exited]);
    return new Peer(child, words.at(-1) ?? "");
  }

  /** Runs the client in C and gives its figures. */
  measure(wire: string, mode: string, count: number, region = 0): number[] {
    return numbers(execFileSync(wire, [mode, this.socket, String(count), String(region)], { encoding: "utf8" }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const exited = once(this.#child, "exit");
      this.#child.kill("SIGKILL");
      await exited;
    }
    rmSync(this.socket, { force: true });
  }
}

function numbers(text: string): number[] {
  return text.trim().split(/\s+/).map(Number);
}

function program(file: string): string {
  return join(import.meta.dirname, file);
}

function compile(folder: string): string {
  const output = join(folder, "wire");
  try {
    execFileSync("cc", ["-O2", "-Wall", "-o", output, program("wire.c")], { stdio: "pipe" });
  } catch (error) {
    throw new BenchmarkUnavailable(`the peer in C does not compile here: ${String(error)}`);
  }
  return output;
}
