// Takes bursts from a device until somebody says stop.
import type { NetDevice, Packets } from "ring3/net";

const BURST = 64;
/** How often the loop looks up although nothing comes. */
const LOOK_MS = 100;

/** Hands over every burst; ends when `goesOn` says no or the signal aborts. */
export async function receiveLoop(
  device: NetDevice,
  signal: AbortSignal,
  goesOn: () => boolean,
  take: (packets: Packets, count: number) => void,
): Promise<void> {
  const { Packets } = await import("ring3/net");
  using packets = new Packets(device.pool.arena, BURST);
  while (!signal.aborted && goesOn()) {
    // By its time, and not by the signal, so that what has come is taken.
    if (!(await device.receivable(0, { timeoutMs: LOOK_MS }))) continue;
    take(packets, device.rxBurst(0, packets));
  }
}
