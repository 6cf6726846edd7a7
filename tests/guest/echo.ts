// Datagrams to an echo service and back, each byte checked: for stacks of ours and the kernel's.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import type { Stack } from "../../packages/ring3/src/drivers/net/stack.ts";

/** Who answers. */
export interface EchoService extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
}

/** The kernel's stack answers, at one of its addresses. */
export async function kernelEcho(address: string): Promise<EchoService> {
  const socket = createSocket("udp4");
  socket.on("message", (data, sender) => socket.send(data, sender.port, sender.address));
  socket.bind(0, address);
  await once(socket, "listening");
  return {
    address,
    port: socket.address().port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => socket.close(() => resolve())),
  };
}

/** Sends `count` datagrams of all sizes, eight at a time, and checks every byte of what comes back. */
export async function echo(
  stack: Stack,
  service: { readonly address: string; readonly port: number },
  count: number,
): Promise<{ good: number; wrong: number; twice: number }> {
  const seen = new Set<number>();
  let wrong = 0;
  let twice = 0;
  let waiting = (): void => {};
  using endpoint = stack.udp.bind(0, {
    listener: (bytes, at, length) => {
      let sequence = 0;
      for (let i = 0; i < 4; i++) sequence = sequence * 256 + (bytes[at + i] as number);
      let good = length === sizeOf(sequence);
      for (let i = 4; good && i < length; i++) good = bytes[at + i] === ((sequence + i * 7) & 0xff);
      if (!good) wrong++;
      else if (seen.has(sequence)) twice++;
      else seen.add(sequence);
      waiting();
    },
  });
  for (let next = 0; next < count; ) {
    const upTo = Math.min(count, next + 8);
    for (; next < upTo; next++) {
      const data = Uint8Array.from({ length: sizeOf(next) }, (_, i) => (next + i * 7) & 0xff);
      new DataView(data.buffer).setUint32(0, next);
      endpoint.send(data, service.address, service.port);
    }
    const deadline = performance.now() + 5000;
    while (seen.size + wrong < next && performance.now() < deadline) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        waiting = (): void => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }
  return { good: seen.size, wrong, twice };
}

const sizeOf = (sequence: number): number => 4 + ((sequence * 37) % 1469);
