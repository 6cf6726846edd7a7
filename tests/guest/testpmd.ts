// DPDK's testpmd in the guest, as root, with one port or two: the peer of our network drivers.
import { packageFiles, rootOutput } from "./inside.ts";
import { type RootProgram, startRootProgram } from "./root-program.ts";

/** What testpmd counted on a port. */
export interface TestpmdCounts {
  readonly received: number;
  readonly sent: number;
}

export interface Testpmd extends AsyncDisposable {
  /** Stops, and forwards in this mode from now on. */
  forward(mode: "io" | "macswap" | "icmpecho"): Promise<void>;
  /** Ends it; what each port counted. */
  finish(): Promise<TestpmdCounts[]>;
}

const LIBRARIES = ["bus_pci", "mempool_ring", "net_e1000", "net_virtio"];
const PROMPT = /testpmd> $/;

/** Starts testpmd on functions that are bound to vfio-pci. */
export async function startTestpmd(addresses: readonly string[]): Promise<Testpmd> {
  const drivers = packageFiles("dpdk", "/usr/lib/x86_64-linux-gnu/dpdk/pmds-*");
  const libraries = LIBRARIES.map((name) => `-d ${drivers}/librte_${name}.so.[0-9][0-9]`);
  await rootOutput("mkdir -p /var/run");
  const program: RootProgram = await startRootProgram("dpdk", "/usr/bin/dpdk-testpmd", [
    ...libraries,
    // Without huge pages each page is a mapping, of which the IOMMU takes 65,535.
    "--no-huge -m 96 --iova-mode=va --no-telemetry --in-memory -l 0,1",
    ...addresses.map((address) => `-a ${address}`),
    "-- -i --total-num-mbufs=2048 --no-lsc-interrupt",
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
    async forward(mode) {
      if (running) await run("stop");
      await run(`set fwd ${mode}`);
      await run("start");
      running = true;
    },
    async finish() {
      await run("stop");
      await run("show port stats all");
      await program.tell("quit");
      // What it counted stays in its buffers until it has ended.
      const said = await program.ended();
      const stations = said.split(/NIC statistics for port/).slice(1);
      return stations.map((text) => {
        const count = (name: string): number => Number(new RegExp(`${name}: *(\\d+)`).exec(text)?.[1]);
        return { received: count("RX-packets"), sent: count("TX-packets") };
      });
    },
    [Symbol.asyncDispose]: () => program[Symbol.asyncDispose](),
  };
}
