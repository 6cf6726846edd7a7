// DPDK's testpmd in the guest, as root, with one port or two: the peer of our network drivers.
import { setTimeout as delay } from "node:timers/promises";
import { packageFiles, rootOutput } from "./inside.ts";
import { type RootProgram, startRootProgram } from "./root-program.ts";

/** What testpmd counted on a port. */
interface TestpmdCounts {
  readonly received: number;
  readonly sent: number;
}

export interface Testpmd extends AsyncDisposable {
  /** Stops, and forwards in this mode from now on; with `first` each port sends a burst of its own at the start. */
  forward(mode: "io" | "macswap" | "icmpecho", first?: "first"): Promise<void>;
  /** Counts from 0 for about so long; how many seconds it was. */
  measure(forMs: number): Promise<number>;
  /** Ends it; what each port had counted at the end of each measurement, and in the end. */
  finish(): Promise<TestpmdCounts[][]>;
}

const LIBRARIES = ["bus_pci", "mempool_ring", "net_e1000", "net_virtio"];
const HUGE_PAGES_FILE = "/proc/sys/vm/nr_hugepages";
const PROMPT = /testpmd> $/;

/** Pages of 2 MiB. */
const HUGE_PAGES = 64;
const MEGABYTES = 96;

/**
 * Starts testpmd on functions that are bound to vfio-pci. `huge`: with huge pages, which is what it is made for; the guest must
 * have the memory in one piece still. Without them each page is a mapping, of which the IOMMU takes 65,535.
 */
export async function startTestpmd(addresses: readonly string[], memory: "huge" | "small" = "small"): Promise<Testpmd> {
  const drivers = packageFiles("dpdk", "/usr/lib/x86_64-linux-gnu/dpdk/pmds-*");
  const libraries = LIBRARIES.map((name) => `-d ${drivers}/librte_${name}.so.[0-9][0-9]`);
  await rootOutput("mkdir -p /var/run");
  if (memory === "huge") {
    const pages = Number(await rootOutput(`echo ${HUGE_PAGES} > ${HUGE_PAGES_FILE}; cat ${HUGE_PAGES_FILE}`));
    if (pages !== HUGE_PAGES) throw new Error(`the guest has ${pages} huge pages left, testpmd wants ${HUGE_PAGES}`);
  }
  const program: RootProgram = await startRootProgram("dpdk", "/usr/bin/dpdk-testpmd", [
    ...libraries,
    `${memory === "huge" ? "" : "--no-huge"} -m ${MEGABYTES}`,
    "--iova-mode=va --no-telemetry --in-memory -l 0,1",
    ...addresses.map((address) => `-a ${address}`),
    // Two ports of the usual 512 descriptors each way hold 2048 buffers, and starve with no more.
    "-- -i --total-num-mbufs=4096 --no-lsc-interrupt",
  ]);
  let commands = 0;
  const run = async (command: string): Promise<void> => {
    await program.tell(command);
    commands++;
    await program.says(new RegExp(`(testpmd> [^]*){${commands + 1}}$`));
  };
  await program.says(PROMPT);
  let running = false;
  return {
    async forward(mode, first) {
      if (running) await run("stop");
      await run(`set fwd ${mode}`);
      await run(first === undefined ? "start" : "start tx_first");
      running = true;
    },
    async measure(forMs) {
      // Both commands take equally long to get there.
      const start = performance.now();
      await run("clear port stats all");
      await delay(Math.max(0, start + forMs - performance.now()));
      const seconds = (performance.now() - start) / 1000;
      await run("show port stats all");
      return seconds;
    },
    async finish() {
      await run("stop");
      await run("show port stats all");
      await program.tell("quit");
      // What it counted stays in its buffers until it has ended.
      const said = await program.ended();
      const parts = said.split(/NIC statistics for port/).slice(1);
      const counts = parts.map((text) => {
        const count = (name: string): number => Number(new RegExp(`${name}: *(\\d+)`).exec(text)?.[1]);
        return { received: count("RX-packets"), sent: count("TX-packets") };
      });
      const ports = addresses.length;
      return Array.from({ length: counts.length / ports }, (_, i) => counts.slice(i * ports, (i + 1) * ports));
    },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}
