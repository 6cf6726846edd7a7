// ring3 echo-stress: many requests at once, made and checked by several threads over one device.
import { Worker } from "node:worker_threads";
import type { Stack } from "ring3/net";
import { type Command, command } from "../command.ts";
import { echoResult, echoText } from "../net/echo-result.ts";
import { OPEN_OPTIONS } from "../open-function.ts";
import { Meter } from "../net/meter.ts";
import { DEVICE_OPTIONS, NETWORK_DEVICE, openStack, parsePeer, STACK_OPTIONS } from "../net/session.ts";
import { STRESS_WORKER, type StressMessage, type StressOrder, type StressReport } from "../net/stress-worker.ts";
import { SVG_OPTION, writeSvg } from "../net/svg-option.ts";

const ECHO_PORT = 7;
/** How often what came back goes to the threads. */
const HAND_OVER_MS = 1;

export const echoStress: Command = command({
  summary: "many UDP echo requests at once from several threads, each checked byte by byte",
  description:
    "Each thread makes datagrams and checks what comes back; the main thread sends and receives for all. Lost datagrams are not sent again.",
  operands: [
    NETWORK_DEVICE,
    { name: "TARGET", description: "a station with an echo service, as 192.0.2.1 or 192.0.2.1:7" },
  ],
  options: {
    threads: { kind: "integer", value: "N", minimum: 1n, maximum: 64n, initial: 4n, description: "threads" },
    count: {
      kind: "integer",
      short: "n",
      value: "N",
      minimum: 1n,
      initial: 10_000n,
      description: "requests of each thread",
    },
    window: {
      kind: "integer",
      short: "w",
      value: "N",
      minimum: 1n,
      maximum: 1024n,
      initial: 32n,
      description: "requests of each thread on their way at once",
    },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 8n,
      maximum: 65_507n,
      initial: 64n,
      description: "bytes of a request",
    },
    timeout: {
      kind: "integer",
      value: "MS",
      minimum: 1n,
      initial: 1000n,
      description: "when a request counts as lost",
    },
    ...SVG_OPTION,
    ...STACK_OPTIONS,
    ...DEVICE_OPTIONS,
    ...OPEN_OPTIONS,
  },
  examples: [
    {
      command: "ring3 echo-stress 03:10.0 192.0.2.1 --ip 192.0.2.2/24 --threads 8 --count 100K",
      text: "eight threads",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", target = ""] = operands;
    const peer = parsePeer(target, ECHO_PORT);
    await using resources = new AsyncDisposableStack();
    const { stack } = await openStack(address, options, context, resources);
    const threads = Number(options.threads);
    const order = {
      kind: "echo-stress",
      count: Number(options.count),
      sizeBytes: Number(options.size),
      window: Number(options.window),
      timeoutMs: Number(options.timeout),
    } as const;
    const all = Array.from({ length: threads }, (_, sender) => new StressThread(stack, { ...order, sender }, peer));
    for (const thread of all) resources.use(thread);
    const sum = (name: "sent" | "received" | "lost" | "late" | "corrupt"): number =>
      all.reduce((total, { report }) => total + (report?.[name] ?? 0), 0);
    const meter = new Meter(context, () => ({ sent: sum("sent"), received: sum("received") }));
    for (const thread of all) {
      thread.onLatencies = (latencies) => {
        for (const nanoseconds of latencies) meter.add(nanoseconds);
        meter.look();
      };
    }
    await context.unlessAborted(Promise.all(all.map((thread) => thread.done)));
    meter.finish();
    writeSvg(options.svg, `ring3 echo-stress to ${target}, ${threads} threads`, meter, ["sent", "received"]);
    const counts = {
      sent: sum("sent"),
      received: sum("received"),
      lost: sum("lost"),
      late: sum("late"),
      corrupt: sum("corrupt"),
    };
    const load = {
      ...peer,
      count: threads * order.count,
      sizeBytes: order.sizeBytes,
      window: threads * order.window,
      timeoutMs: order.timeoutMs,
    };
    const value = { threads, ...echoResult(load, counts, meter), stack: stack.statistics };
    context.result(value, () => echoText(value, context.style));
    if (counts.received === 0) throw new Error(`${target} did not answer`);
    if (counts.corrupt > 0) throw new Error(`${counts.corrupt} datagrams came back with other bytes`);
  },
});

/** A thread with its endpoint. */
class StressThread implements AsyncDisposable {
  report: StressReport | undefined;
  onLatencies: (latencies: Float64Array) => void = () => {};
  readonly done: Promise<void>;
  readonly #exited: Promise<void>;
  readonly #worker: Worker;
  readonly #endpoint: Disposable;
  readonly #timer: NodeJS.Timeout;
  /** Sends what waits, as far as it goes: the ring may be full, or the target's address not known yet. */
  readonly #send: () => void;
  readonly #unsent: Uint8Array[] = [];
  #back: Uint8Array[] = [];

  constructor(stack: Stack, order: StressOrder, peer: { readonly address: string; readonly port: number }) {
    const worker = new Worker(STRESS_WORKER, { workerData: order });
    const endpoint = stack.udp.bind(0, {
      listener: (bytes, at, length) => this.#back.push(bytes.slice(at, at + length)),
    });
    this.#worker = worker;
    this.#endpoint = endpoint;
    this.#send = () => {
      if (stack.failure !== undefined) {
        void worker.terminate();
        return;
      }
      let sent = 0;
      while (sent < this.#unsent.length && endpoint.send(this.#unsent[sent] as Uint8Array, peer.address, peer.port))
        sent++;
      this.#unsent.splice(0, sent);
    };
    this.#timer = setInterval(() => {
      this.#send();
      this.#handOver(order.sizeBytes);
    }, HAND_OVER_MS);
    worker.on("message", (message: StressMessage) => {
      if ("report" in message) {
        this.report = message.report;
        this.onLatencies(message.report.latencies);
        return;
      }
      const { bytes } = message.batch;
      for (let at = 0; at < bytes.length; at += order.sizeBytes) {
        this.#unsent.push(bytes.subarray(at, at + order.sizeBytes));
      }
      this.#send();
    });
    this.#exited = new Promise((resolve) => worker.once("exit", () => resolve()));
    this.done = new Promise((resolve, reject) => {
      worker.once("error", reject);
      worker.once("exit", () => {
        if (this.report?.done === true) resolve();
        else reject(stack.failure ?? new Error("a thread ended before its work was done"));
      });
    });
    // Whoever waits for it hears of it; that nobody does any more is no reason to end the process.
    this.done.catch(() => undefined);
  }

  /** Datagrams of another size are no answers of ours; in a batch they would move the others. */
  #handOver(sizeBytes: number): void {
    const datagrams = this.#back.filter(({ length }) => length === sizeBytes);
    this.#back = [];
    if (datagrams.length === 0) return;
    const bytes = new Uint8Array(datagrams.length * sizeBytes);
    for (const [i, datagram] of datagrams.entries()) bytes.set(datagram, i * sizeBytes);
    this.#worker.postMessage({ bytes });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#endpoint[Symbol.dispose]();
    if (this.report?.done === true) return;
    await this.#worker.terminate();
    await this.#exited;
  }
}
