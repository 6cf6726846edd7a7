// Sends datagrams to an echo service, some at a time, and accounts for each: it came back as it was sent, came twice, came with
// other bytes, or was lost.
import type { Stack } from "ring3/net";
import { checkPayload, fillPayload } from "./echo-payload.ts";
import type { Meter } from "./meter.ts";

export interface EchoLoad {
  readonly address: string;
  readonly port: number;
  readonly count: number;
  readonly sizeBytes: number;
  /** Datagrams on their way at once. */
  readonly window: number;
  readonly timeoutMs: number;
}

export interface EchoCounts {
  readonly sent: number;
  readonly received: number;
  /** Not back in time. */
  readonly lost: number;
  /** Back after they counted as lost, or a second time. */
  readonly late: number;
  readonly corrupt: number;
}

/** How long to wait where the ring or the neighbour's answer let nothing go. */
const RETRY_MS = 5;

/** `live` is kept up to date for whoever looks meanwhile. Ends when all is accounted for, or the signal aborts. */
export async function echoClient(
  stack: Stack,
  { address, port, count, sizeBytes, window, timeoutMs }: EchoLoad,
  signal: AbortSignal,
  live: { sent: number; received: number },
  meter: Meter,
): Promise<EchoCounts> {
  const sender = Math.floor(Math.random() * 2 ** 32);
  const payload = new Uint8Array(sizeBytes);
  const { ipv4 } = await import("ring3/net");
  const target = ipv4(address);
  const onTheWay = new Map<number, number>();
  let [next, lost, late, corrupt] = [0, 0, 0, 0];
  const { promise, resolve } = Promise.withResolvers<void>();
  const fill = (): void => {
    if (stack.failure !== undefined) {
      resolve();
      return;
    }
    while (onTheWay.size < window && next < count && !signal.aborted) {
      fillPayload(payload, sender, next);
      if (!endpoint.sendFrom(payload, 0, sizeBytes, target, port)) break;
      onTheWay.set(next, performance.now());
      next++;
      live.sent++;
    }
    if ((next >= count && onTheWay.size === 0) || signal.aborted) resolve();
  };
  using endpoint = stack.udp.bind(0, {
    listener: (bytes, at, length) => {
      const sequence = checkPayload(bytes, at, length, sender, sizeBytes);
      const sentMs = onTheWay.get(sequence);
      if (sequence < 0) corrupt++;
      else if (sentMs === undefined) late++;
      else {
        onTheWay.delete(sequence);
        live.received++;
        meter.add((performance.now() - sentMs) * 1e6);
      }
      fill();
    },
  });
  const timer = setInterval(() => {
    const before = performance.now() - timeoutMs;
    for (const [sequence, sentMs] of onTheWay) {
      // In the order in which they were sent.
      if (sentMs > before) break;
      onTheWay.delete(sequence);
      lost++;
    }
    meter.look();
    fill();
  }, RETRY_MS);
  const stop = (): void => resolve();
  signal.addEventListener("abort", stop, { once: true });
  try {
    fill();
    await promise;
  } finally {
    clearInterval(timer);
    signal.removeEventListener("abort", stop);
  }
  if (stack.failure !== undefined) throw stack.failure;
  return { sent: live.sent, received: live.received, lost: lost + onTheWay.size, late, corrupt };
}
