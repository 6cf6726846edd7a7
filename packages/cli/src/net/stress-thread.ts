// The main thread's side of a thread of ring3 echo-stress.
import { Worker } from "node:worker_threads";
import type { Stack, UdpEndpoint } from "ring3/net";
import type { StressReport } from "./stress.ts";
import {
  type QueueCounts,
  STRESS_WORKER,
  type StressMessage,
  type StressNews,
  type StressOrder,
} from "./stress-worker.ts";
import { UnsentDatagrams } from "./unsent-datagrams.ts";

/** How often what came back goes to a thread, and whether the device lives is looked at. */
const HAND_OVER_MS = 1;

/** What the main thread's stack does for its threads. */
type StressStack = Pick<Stack, "udp" | "failure">;

/** Sends and receives for a thread that has no queue. */
class Relay implements Disposable {
  readonly #sizeBytes: number;
  readonly #endpoint: UdpEndpoint;
  readonly #unsent: UnsentDatagrams;
  #back: Uint8Array[] = [];

  constructor(stack: StressStack, address: number, port: number, sizeBytes: number) {
    this.#sizeBytes = sizeBytes;
    this.#endpoint = stack.udp.bind(0, {
      listener: (bytes, at, length) => this.#back.push(bytes.slice(at, at + length)),
    });
    this.#unsent = new UnsentDatagrams(this.#endpoint, address, port, sizeBytes);
  }

  send(datagrams: Uint8Array): void {
    this.#unsent.add(datagrams);
  }

  retry(): void {
    this.#unsent.send();
  }

  /** What came back. Datagrams of another size are no answers of ours; in a batch they would move the others. */
  take(): Uint8Array | undefined {
    const datagrams = this.#back.filter(({ length }) => length === this.#sizeBytes);
    this.#back = [];
    if (datagrams.length === 0) return undefined;
    const bytes = new Uint8Array(datagrams.length * this.#sizeBytes);
    for (const [i, datagram] of datagrams.entries()) bytes.set(datagram, i * this.#sizeBytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#endpoint[Symbol.dispose]();
  }
}

export class StressThread implements AsyncDisposable {
  report: StressReport | undefined;
  /** What its queue did, once it has ended; nothing where it has none. */
  queue: QueueCounts | undefined;
  /** Resolves once it receives; rejects as `done` does. */
  readonly ready: Promise<void>;
  /** Resolves once all its requests are accounted for; rejects with the end of the device, and what the thread throws. */
  readonly done: Promise<void>;
  readonly #stack: StressStack;
  readonly #onLatencies: (latencies: Float64Array) => void;
  readonly #relay: Relay | undefined;
  readonly #exited: Promise<void>;
  readonly #worker: Worker;
  readonly #timer: NodeJS.Timeout;
  readonly #receives: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly #finish: PromiseWithResolvers<void> = Promise.withResolvers();

  /** `peer.address` is a 32-bit integer. */
  constructor(
    stack: StressStack,
    order: StressOrder,
    peer: { readonly address: number; readonly port: number },
    onLatencies: (latencies: Float64Array) => void,
  ) {
    const worker = new Worker(STRESS_WORKER, { workerData: order });
    this.#stack = stack;
    this.#onLatencies = onLatencies;
    this.#worker = worker;
    this.#relay = order.own === undefined ? new Relay(stack, peer.address, peer.port, order.sizeBytes) : undefined;
    this.done = this.#finish.promise;
    // Whoever waits for it hears of it; that nobody does any more is no reason to end the process.
    this.done.catch(() => undefined);
    this.ready = Promise.race([this.#receives.promise, this.done]);
    this.ready.catch(() => undefined);
    worker.on("message", (message: StressMessage) => this.#hear(message));
    worker.once("error", (error) => this.#finish.reject(stack.failure ?? error));
    this.#exited = new Promise((resolve) => {
      worker.once("exit", () => {
        this.#finish.reject(stack.failure ?? new Error("a thread ended before its work was done"));
        resolve();
      });
    });
    this.#timer = setInterval(() => this.#look(), HAND_OVER_MS);
  }

  #hear(message: StressMessage): void {
    if ("ready" in message) this.#receives.resolve();
    else if ("report" in message) {
      this.report = message.report;
      this.#onLatencies(message.report.latencies);
      if (message.report.done) this.#finish.resolve();
    } else if ("queue" in message) this.queue = message.queue;
    else if (this.#stack.failure === undefined) this.#relay?.send(message.datagrams);
  }

  /** Has it send. */
  begin(): void {
    this.#tell("begin");
  }

  #look(): void {
    const { failure } = this.#stack;
    if (failure !== undefined) {
      this.#finish.reject(failure);
      return;
    }
    this.#relay?.retry();
    const datagrams = this.#relay?.take();
    if (datagrams !== undefined) this.#tell({ datagrams });
  }

  #tell(news: StressNews): void {
    this.#worker.postMessage(news);
  }

  /** Ends the thread and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#relay?.[Symbol.dispose]();
    this.#tell("end");
    await this.#exited;
  }
}
