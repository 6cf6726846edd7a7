// A thread of ring3 echo-stress. It sends and receives over a queue of its own, where it has one; else the main thread does that
// for it, and batches of datagrams go between the two.
import { isMainThread, type MessagePort, parentPort, workerData } from "node:worker_threads";
import type {
  NetQueueHandle,
  NetQueueStatistics,
  QueueDeviceFacts,
  ReceiveSteering,
  StackOptions,
  SteeringStatistics,
} from "ring3/net";
import { Stress, type StressLoad, type StressReport } from "./stress.ts";
import { UnsentDatagrams } from "./unsent-datagrams.ts";

/** A queue of the thread's own, and what a stack over it has to know. */
export interface StressStation {
  readonly queue: NetQueueHandle;
  readonly steering: ReceiveSteering;
  readonly station: number;
  readonly facts: QueueDeviceFacts;
  readonly stack: Pick<StackOptions, "address" | "gateway" | "vlan" | "permanentNeighbours">;
  readonly peer: { readonly address: string; readonly port: number };
}

/** What a thread is told at its start. */
export interface StressOrder extends StressLoad {
  readonly kind: "echo-stress";
  readonly own: StressStation | undefined;
}

/** What a queue did, for the result. */
export interface QueueCounts extends NetQueueStatistics, SteeringStatistics {
  readonly index: number;
}

/** What a thread says: that it receives, requests to send for it, how far it is, and last what its queue did. */
export type StressMessage =
  | { readonly ready: true }
  | { readonly datagrams: Uint8Array }
  | { readonly report: StressReport }
  | { readonly queue: QueueCounts };

/** What a thread is told later: to begin, once all are ready; what came back, one after the other; to end. */
export type StressNews = { readonly datagrams: Uint8Array } | "begin" | "end";

/** Where this file lies, for the thread. */
export const STRESS_WORKER: URL = new URL(import.meta.url);

const LOOK_MS = 20;
/** Between two tries to send what the ring had no room for. */
const RETRY_MS = 1;

/** Runs over what the main thread sends and receives. */
function relayed(order: StressOrder, port: MessagePort): void {
  const say = (message: StressMessage): void => port.postMessage(message);
  const stress = new Stress(order, (datagrams) => say({ datagrams }));
  let timer: NodeJS.Timeout | undefined;
  port.on("message", (news: StressNews) => {
    if (news === "begin") {
      timer = setInterval(() => say({ report: stress.report() }), LOOK_MS);
      stress.fill();
      return;
    }
    if (news === "end") {
      clearInterval(timer);
      port.close();
      return;
    }
    const { datagrams } = news;
    for (let at = 0; at < datagrams.length; at += order.sizeBytes) stress.take(datagrams, at, order.sizeBytes);
    stress.fill();
  });
  say({ ready: true });
}

/**
 * Runs over a queue of its own. It goes on when its own work is done, since the device may give it what is for others, until it is
 * told to end.
 */
async function steered(order: StressOrder, own: StressStation, port: MessagePort): Promise<void> {
  const begin = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  port.on("message", (news: StressNews) => {
    if (news === "begin") begin.resolve();
    else if (news === "end") {
      // Also of a run that never began.
      begin.resolve();
      end.resolve();
    }
  });
  const say = (message: StressMessage): void => port.postMessage(message);
  const { attachNetQueue, ipv4, QueueDevice, Stack, SteeredQueue } = await import("ring3/net");
  using attached = await attachNetQueue(own.queue);
  const queue = new SteeredQueue(attached, own.steering, own.station);
  await using stack = await Stack.start(new QueueDevice(queue, own.facts), {
    ...own.stack,
    arp: false,
  });
  using endpoint = stack.udp.bind(0, {
    listener: (bytes, at, length) => {
      stress.take(bytes, at, length);
      stress.fill();
    },
  });
  const unsent = new UnsentDatagrams(endpoint, ipv4(own.peer.address), own.peer.port, order.sizeBytes);
  const stress = new Stress(order, (datagrams) => unsent.add(datagrams));
  // From here on the queue has buffers. What others send before would be answered into it, and lost.
  say({ ready: true });
  await begin.promise;
  // The main thread hears of the device's end by itself, and says so.
  const whileItWorks = (work: () => void) => (): void => {
    if (stack.failure === undefined) work();
  };
  const timers = [
    setInterval(
      whileItWorks(() => unsent.send()),
      RETRY_MS,
    ),
    setInterval(
      whileItWorks(() => say({ report: stress.report() })),
      LOOK_MS,
    ),
  ];
  stress.fill();
  await end.promise;
  for (const timer of timers) clearInterval(timer);
  if (stack.failure === undefined) say({ queue: { index: queue.index, ...queue.statistics(), ...queue.steered } });
  port.close();
}

const order = workerData as StressOrder | undefined;
if (!isMainThread && order?.kind === "echo-stress" && parentPort !== null) {
  if (order.own === undefined) relayed(order, parentPort);
  else await steered(order, order.own, parentPort);
}
