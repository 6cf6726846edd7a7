// A run of ring3 echo-stress: its threads over their queues, and what they have counted.
import type { NetDevice, Stack, StackDevice } from "ring3/net";
import type { EchoCounts } from "./echo-client.ts";
import type { StressLoad, StressReport } from "./stress.ts";
import { StressStations } from "./stress-stations.ts";
import { StressThread } from "./stress-thread.ts";
import type { QueueCounts } from "./stress-worker.ts";

export interface StressWanted {
  readonly threads: number;
  /** The main thread's queue, and one for each of the first threads: `threads + 1` at most. */
  readonly queues: number;
  /** What each thread sends. */
  readonly load: Omit<StressLoad, "sender">;
  readonly peer: { readonly address: string; readonly port: number };
}

export class StressRun implements AsyncDisposable {
  readonly stack: Stack<StackDevice>;
  readonly #stations: StressStations;
  readonly #threads: readonly StressThread[];

  private constructor(stations: StressStations, stack: Stack<StackDevice>, threads: readonly StressThread[]) {
    this.#stations = stations;
    this.stack = stack;
    this.#threads = threads;
  }

  /**
   * Starts the threads. `startStack` starts that of the main thread, which stays the caller's and lives longer than the run.
   * `onLatencies` hears nanoseconds of what came back. Throws a `UsageError` where the device cannot do it.
   */
  static async start(
    device: NetDevice,
    { threads, queues, load, peer }: StressWanted,
    startStack: (over: StackDevice) => Promise<Stack<StackDevice>>,
    onLatencies: (latencies: Float64Array) => void,
  ): Promise<StressRun> {
    const onTheWay = load.window * Math.max(1, threads - queues + 1);
    await using resources = new AsyncDisposableStack();
    const stations = resources.use(await StressStations.open(device, { queues, onTheWay, sizeBytes: load.sizeBytes }));
    const stack = await startStack(stations.device);
    const own = await stations.others(stack, peer);
    const { ipv4 } = await import("ring3/net");
    const target = { address: ipv4(peer.address), port: peer.port };
    const all = Array.from({ length: threads }, (_, sender) => {
      const order = { kind: "echo-stress", ...load, sender, own: own[sender] } as const;
      return resources.use(new StressThread(stack, order, target, onLatencies));
    });
    // The device may give each queue what was sent from any.
    await Promise.all(all.map(({ ready }) => ready));
    for (const thread of all) thread.begin();
    resources.move();
    return new StressRun(stations, stack, all);
  }

  /** Waits until everything is accounted for, and ends the threads. Rejects with the end of the device. */
  async finished(): Promise<void> {
    await Promise.all(this.#threads.map(({ done }) => done));
    await this.#end();
  }

  /** Of all threads, as far as they have said. */
  get counts(): EchoCounts {
    const sum = (name: Exclude<keyof StressReport, "latencies" | "done">): number =>
      this.#threads.reduce((total, { report }) => total + (report?.[name] ?? 0), 0);
    return {
      sent: sum("sent"),
      received: sum("received"),
      lost: sum("lost"),
      late: sum("late"),
      corrupt: sum("corrupt"),
    };
  }

  /** What each queue did, those of the threads once they have ended. */
  get queues(): readonly QueueCounts[] {
    return [...this.#stations.counts(), ...this.#threads.flatMap(({ queue }) => queue ?? [])];
  }

  async #end(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread[Symbol.asyncDispose]()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.#stations[Symbol.asyncDispose]();
  }
}
