// QEMU's own NVMe driver over VFIO, inside the guest, by `qemu-img bench`, which reads sequentially only.
import type { Guest } from "../../tests/guest/guest.ts";
import type { PeerFigure } from "./kernel-peer.ts";
import { ADDRESS, asRoot, bindVfio, NAMESPACE_ID, peerProgram } from "./machine.ts";
import { DEPTHS, READ_BYTES } from "./plan.ts";

export const QEMU_NAME = "QEMU's driver, qemu-img bench";

/** What the emulated device does in a second at the least, for the number of requests. */
const PER_SECOND = { shallow: 4000, deep: 12_000 } as const;
const LEAST_REQUESTS = 8000;

export async function measureQemu(guest: Guest, times: { readonly measureMs: number }): Promise<PeerFigure[]> {
  await bindVfio(guest);
  // It enables the controller before it tells it the admin queues: with those that the driver before it left behind, the
  // first open waits for ever.
  await asRoot(guest, `timeout -s KILL 6 ${bench(1, 1)} || true`);
  const figures: PeerFigure[] = [];
  for (const depth of DEPTHS) {
    const perSecond = depth === 1 ? PER_SECOND.shallow : PER_SECOND.deep;
    const requests = Math.max(LEAST_REQUESTS, Math.round((times.measureMs / 1000) * perSecond));
    const output = await asRoot(guest, bench(depth, requests), 120_000);
    const seconds = Number(/Run completed in ([\d.]+) seconds/.exec(output)?.[1]);
    if (!(seconds > 0)) throw new Error(`qemu-img bench at depth ${depth} said ${output}`);
    figures.push({ name: QEMU_NAME, pattern: "sequential", depth, perSecond: requests / seconds });
  }
  return figures;
}

function bench(depth: number, requests: number): string {
  const url = `nvme://${ADDRESS}/${NAMESPACE_ID}`;
  return `${peerProgram("qemu-img")} bench -f raw -c ${requests} -d ${depth} -s ${READ_BYTES} ${url} 2>&1`;
}
