// The other process of the tests: serves an NVMe disk in a file, when it is told to, and may be told to kill itself at a
// point that nobody could hit from outside. It starts early and waits, so that a server is back a moment after one died.
import { flushCompileCache } from "node:module";
import { createInterface } from "node:readline";
import type { BlockBacking } from "../../packages/ring3/src/devices/block-backing.ts";
import { NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import { fileBacking } from "../../packages/ring3/src/linux/index.ts";
import { serve } from "../../packages/ring3/src/vfio-user/server.ts";
import type { StateStore } from "../../packages/ring3/src/vfio-user/server-options.ts";
import { StateFile } from "../../packages/ring3/src/vfio-user/server-state.ts";
import { decodeState } from "../../packages/ring3/src/virtual/state.ts";
import { StateFields } from "../../packages/ring3/src/virtual/state-fields.ts";

/** What to serve. */
export interface DiskOrder {
  readonly disk: string;
  readonly socket: string;
  readonly state?: string;
  readonly mappableDoorbells: boolean;
  /** Whether another server may have the disk open too. */
  readonly shared?: boolean;
  /** Holds up every so many writes by a turn of the event loop, as a slow disk does. */
  readonly slowEvery?: number;
  readonly death?: Death;
}

/** When to die by SIGKILL: before or after the state is saved, before or after a write reaches the disk. */
export interface Death {
  readonly at: "save" | "saved" | "write" | "written";
  /** How many of these go well before. */
  readonly after: number;
  /** Time between the event and the death, in which the device stands still and the driver goes on. */
  readonly lingerMs: number;
}

class Executioner {
  readonly #death: Death | undefined;
  #left: number;

  constructor(death: Death | undefined) {
    this.#death = death;
    this.#left = death?.after ?? 0;
  }

  pass(at: Death["at"]): void {
    if (this.#death?.at !== at || this.#left-- > 0) return;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, this.#death.lingerMs);
    process.kill(process.pid, "SIGKILL");
    // The signal is on its way: nothing else may happen.
    for (;;);
  }
}

function watched(inner: BlockBacking, order: DiskOrder, executioner: Executioner): BlockBacking {
  let writes = 0;
  const write = async (offset: number, source: Uint8Array): Promise<void> => {
    const own = source.slice();
    await new Promise((resolve) => setImmediate(resolve));
    await inner.write(offset, own);
    executioner.pass("written");
  };
  return {
    sizeBytes: inner.sizeBytes,
    read: (offset, target, cancellation) => inner.read(offset, target, cancellation),
    write(offset, source, cancellation) {
      executioner.pass("write");
      if (order.slowEvery !== undefined && ++writes % order.slowEvery === 0) return write(offset, source);
      const done = inner.write(offset, source, cancellation);
      if (done === undefined) executioner.pass("written");
      return done;
    },
    flush: () => inner.flush(),
  };
}

function storeOf(path: string, executioner: Executioner): StateStore {
  const file = new StateFile(path);
  return {
    load: () => file.load(),
    save(state) {
      executioner.pass("save");
      file.save(state);
      executioner.pass("saved");
    },
  };
}

/** Where the completion queues lie, as the device knows it: memory that only the device writes. */
function completionQueues(fn: NvmeDevice): { iova: number; size: number }[] {
  const device = new StateFields(decodeState(fn.save())).record("device");
  return device.records("completionQueues").map((queue) => ({
    iova: queue.number("iova"),
    size: 16 * queue.number("entries"),
  }));
}

async function start(order: DiskOrder): Promise<NvmeDevice> {
  const executioner = new Executioner(order.death);
  const backing = watched(fileBacking(order.disk, { shared: order.shared === true }), order, executioner);
  const { mappableDoorbells } = order;
  const fn = new NvmeDevice({ namespaces: [{ backing }], mappableDoorbells, serialNumber: "MOVING" });
  await serve(fn, order.socket, {
    ...(order.state === undefined ? {} : { state: storeOf(order.state, executioner) }),
    onEvent: (event) => {
      if (event.type === "fault" || event.type === "error") console.log(`${event.type}: ${event.description}`);
    },
  });
  console.log("serving");
  return fn;
}

// Whoever is killed would leave nothing for the next, which starts in a quarter of the time with it.
flushCompileCache();
console.log("waiting");
// A parent that is gone, however it ended, takes its servers along.
const lines = createInterface(process.stdin).on("close", () => process.exit(0));
let fn: NvmeDevice | undefined;
for await (const line of lines) {
  if (line !== "queues") fn = await start(JSON.parse(line) as DiskOrder);
  else if (fn !== undefined) console.log(`queues ${JSON.stringify(completionQueues(fn))}`);
}
