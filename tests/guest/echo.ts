// Datagrams to an echo service and back, each byte checked: for stacks of ours and the kernel's.
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { ipv4 } from "../../packages/ring3/src/drivers/net/ipv4-address.ts";
import type { Stack } from "../../packages/ring3/src/drivers/net/stack.ts";

/** Who answers. */
export interface EchoService extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
}

/** The kernel's stack answers, at one of its addresses; with a thread of its own, so that it does so beside us. */
export async function kernelEcho(address: string): Promise<EchoService> {
  const worker = new Worker(new URL("./kernel-echo.ts", import.meta.url), { workerData: { address } });
  const [port] = (await once(worker, "message")) as [number];
  return {
    address,
    port,
    [Symbol.asyncDispose]: async () => {
      await worker.terminate();
    },
  };
}

/** What came of the datagrams: `good` ones came back as they were sent, once at least. */
export interface EchoCount {
  readonly good: number;
  readonly wrong: number;
  readonly twice: number;
}

export interface EchoOptions {
  /** Datagrams on their way at once; 8 by default. */
  readonly window?: number;
  /** Told now and then how many are back. */
  readonly progress?: (good: number) => void;
}

const HEAD_BYTES = 4;
const MOST_BYTES = 1472;
/** Nothing came for so long: what is on its way is lost. */
const PATIENCE_MS = 5000;
const PROGRESS_EVERY = 50_000;
/** Byte `i` of datagram `n` is `(n + 7 i) mod 256`: a piece of this, from where `7 k` is `n` modulo 256. */
const PATTERN: Uint8Array = Uint8Array.from({ length: MOST_BYTES + 256 }, (_, k) => 7 * k);
const INVERSE_OF_7 = 183;

/** Sends `count` datagrams of all sizes and checks every byte of what comes back. */
export async function echo(
  stack: Stack,
  service: { readonly address: string; readonly port: number },
  count: number,
  { window = 8, progress }: EchoOptions = {},
): Promise<EchoCount> {
  const seen = new Uint8Array(count);
  let [good, wrong, twice, lost, next] = [0, 0, 0, 0, 0];
  let wake = (): void => {};
  using endpoint = stack.udp.bind(0, {
    listener: (bytes, at, length) => {
      let sequence = 0;
      for (let i = 0; i < HEAD_BYTES; i++) sequence = sequence * 256 + (bytes[at + i] as number);
      if (sequence >= next || !isWhole(bytes, at, length, sequence)) wrong++;
      else if (seen[sequence] === 1) twice++;
      else {
        seen[sequence] = 1;
        good++;
        if (good % PROGRESS_EVERY === 0) progress?.(good);
      }
      wake();
    },
  });
  const address = ipv4(service.address);
  const data = new Uint8Array(MOST_BYTES);
  while (good + wrong + lost < count) {
    for (; next < count && next - good - wrong - lost < window; next++) {
      const size = sizeOf(next);
      data.set(piece(next, size), 0);
      for (let i = 0; i < HEAD_BYTES; i++) data[i] = next >>> (24 - 8 * i);
      if (!endpoint.sendFrom(data, 0, size, address, service.port)) break;
    }
    const before = good + wrong;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS);
      wake = (): void => {
        clearTimeout(timer);
        resolve();
      };
    });
    if (good + wrong === before) lost = next - good - wrong;
  }
  return { good, wrong, twice };
}

/** All sizes come up. */
const sizeOf = (sequence: number): number => HEAD_BYTES + ((sequence * 37) % (MOST_BYTES - HEAD_BYTES + 1));

function piece(sequence: number, size: number): Uint8Array {
  const start = (sequence * INVERSE_OF_7) & 0xff;
  return PATTERN.subarray(start, start + size);
}

function isWhole(bytes: Uint8Array, at: number, length: number, sequence: number): boolean {
  if (length !== sizeOf(sequence)) return false;
  const start = (sequence * INVERSE_OF_7) & 0xff;
  for (let i = HEAD_BYTES; i < length; i++) if (bytes[at + i] !== PATTERN[start + i]) return false;
  return true;
}
