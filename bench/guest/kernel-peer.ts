// The kernel's NVMe driver, measured by fio. Several of fio's engines, since the fastest is the peer to beat.
import type { Guest } from "../../tests/guest/guest.ts";
import { asRoot, bindKernelDriver, type KernelDomain, peerProgram } from "./machine.ts";
import { DEPTHS, type Pattern, READ_BYTES } from "./plan.ts";

/** One job of fio. */
interface Job {
  readonly engine: string;
  readonly name: string;
  readonly pattern: Pattern;
  readonly depth: number;
  readonly domain: KernelDomain;
}

export interface PeerFigure {
  readonly name: string;
  readonly pattern: Pattern;
  readonly depth: number;
  readonly perSecond: number;
}

/** The words of fio's command line for each way of reading. */
const ENGINES: Readonly<Record<string, string>> = {
  psync: "--ioengine=psync",
  libaio: "--ioengine=libaio",
  io_uring: "--ioengine=io_uring",
  "io_uring, polled": "--ioengine=io_uring --hipri",
};

/** Names of the kernel's figures, for comparisons. */
export function kernelName(engine: string, domain: KernelDomain = "DMA"): string {
  return domain === "DMA" ? `kernel, ${engine}` : `kernel without IOMMU, ${engine}`;
}

function jobs(domain: KernelDomain): Job[] {
  const job = (engine: string, pattern: Pattern, depth: number): Job => {
    return { engine, name: kernelName(engine, domain), pattern, depth, domain };
  };
  const random = DEPTHS.flatMap((depth) => {
    const engines =
      depth === 1 ? ["psync", "io_uring", "io_uring, polled"] : ["libaio", "io_uring", "io_uring, polled"];
    return engines.map((engine) => job(engine, "random", depth));
  });
  if (domain === "identity") return random.filter(({ engine }) => engine !== "libaio");
  return [...random, ...DEPTHS.map((depth) => job("io_uring", "sequential", depth))];
}

export async function measureKernel(
  guest: Guest,
  domain: KernelDomain,
  times: { readonly warmUpMs: number; readonly measureMs: number },
): Promise<PeerFigure[]> {
  const device = await bindKernelDriver(guest, domain);
  const list = jobs(domain);
  const common = [
    `--filename=${device} --direct=1 --bs=${READ_BYTES} --thread --norandommap --randrepeat=0`,
    `--time_based --ramp_time=${times.warmUpMs}ms --runtime=${times.measureMs}ms`,
    // No latency is measured on the other side either.
    "--gtod_reduce=1 --output-format=json",
  ];
  const words = list.map(({ engine, pattern, depth }, index) => {
    const rw = pattern === "random" ? "randread" : "read";
    return `--name=job${index} --stonewall --rw=${rw} --iodepth=${depth} ${ENGINES[engine]}`;
  });
  const longMs = 60_000 + 2 * list.length * (times.warmUpMs + times.measureMs);
  const output = await asRoot(guest, [peerProgram("fio"), ...common, ...words].join(" "), longMs);
  const { jobs: done } = JSON.parse(output.slice(output.indexOf("{"))) as FioOutput;
  return list.map(({ name, pattern, depth }, index) => {
    const figure = done[index];
    if (figure === undefined || figure.error !== 0 || !(figure.read.iops > 0)) {
      throw new Error(`fio measured nothing for ${name} at depth ${depth}: ${JSON.stringify(figure?.error)}`);
    }
    return { name, pattern, depth, perSecond: figure.read.iops };
  });
}

interface FioOutput {
  readonly jobs: readonly { readonly error: number; readonly read: { readonly iops: number } }[];
}
