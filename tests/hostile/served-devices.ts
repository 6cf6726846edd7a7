// A process that serves every device of ring3, each at its own socket, and tells its parent how it fares. Hard about it:
// what is looked for (a leak, an exception in a model) must be told apart from what is fine (a refused DMA access).
import { readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { type FunctionServer, serve } from "../../packages/ring3/src/vfio-user/server.ts";
import { makeDevices } from "./device-set.ts";

/** How the serving process is, after a garbage collection. */
export interface Health {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly descriptors: readonly string[];
  /** Over all functions. */
  readonly maps: number;
  readonly clients: number;
  /** Functions that are not as after power-on, though nobody uses them. */
  readonly dirty: readonly string[];
  readonly faults: number;
  /** What no client may cause: exceptions of a model other than refusals. */
  readonly failures: readonly string[];
}

interface ServingOptions {
  readonly folder: string;
  readonly clientTimeoutMs?: number;
  readonly openings?: number;
}

/** `socket`, `anon_inode:[eventfd]`, paths: what is open, without numbers that differ each time. */
function descriptors(): string[] {
  return readdirSync("/proc/self/fd")
    .flatMap((name) => {
      try {
        return [readlinkSync(join("/proc/self/fd", name)).replace(/:\[\d+\]$/, "")];
      } catch {
        return []; // the folder's own
      }
    })
    .sort();
}

async function main(options: ServingOptions): Promise<void> {
  const devices = makeDevices();
  const servers = new Map<string, FunctionServer>();
  const pristine = new Map<string, Buffer>();
  const failures: string[] = [];
  let faults = 0;
  for (const [name, fn] of devices) {
    pristine.set(name, Buffer.from(fn.config.save()));
    const server = await serve(fn, join(options.folder, name), {
      clientTimeoutMs: options.clientTimeoutMs ?? 2000,
      openings: options.openings ?? 1,
      onEvent: (event) => {
        if (event.type === "fault") {
          faults++;
          // Ring3Errors come without a class name: those are refusals.
          if (/^[A-Za-z]*Error: /.test(event.description)) failures.push(`${name}: ${event.description}`);
        } else if (event.type === "error") failures.push(`${name}: ${event.description}`);
      },
    });
    servers.set(name, server);
  }
  const health = (): Health => {
    for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.();
    const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
    const all = [...devices];
    return {
      residentBytes: rss,
      heapBytes: heapUsed,
      externalBytes: external + arrayBuffers,
      descriptors: descriptors(),
      maps: all.reduce((sum, [, fn]) => sum + fn.memory.count, 0),
      clients: all.filter(([, fn]) => fn.connectedTo !== undefined).length,
      dirty: all
        .filter(([name, fn]) => fn.connectedTo === undefined && pristine.get(name)?.equals(fn.config.save()) === false)
        .map(([name]) => name),
      faults,
      failures: failures.splice(0),
    };
  };
  process.on("message", () => process.send?.(health()));
  process.on("disconnect", () => process.exit(0));
  process.send?.("ready");
}

if (process.argv[2] !== undefined) await main(JSON.parse(process.argv[2]) as ServingOptions);
