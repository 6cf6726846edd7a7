// ring3 nvme bench: operations a second and how long each takes, through the driver's ordinary calls without copies.
import type { CompletionMode, Namespace, NvmeDriver } from "ring3/nvme";
import { type Command, command } from "../../command.ts";
import type { Context } from "../../context.ts";
import { Latencies } from "../../latency.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { binarySize, columns } from "../../text.ts";
import { UsageError } from "../../usage-error.ts";
import { CONTROLLER, NAMESPACE_OPTION, startNvme } from "./session.ts";

export const bench: Command = command({
  summary: "measure reads or writes: operations a second and latencies",
  description:
    "Random places over the whole namespace unless --sequential. Writing destroys what is there and needs --yes.",
  operands: [CONTROLLER],
  options: {
    ...NAMESPACE_OPTION,
    depth: {
      kind: "integer",
      short: "d",
      value: "N",
      minimum: 1n,
      maximum: 1023n,
      initial: 1n,
      description: "operations in flight",
    },
    seconds: {
      kind: "integer",
      short: "t",
      value: "S",
      minimum: 1n,
      maximum: 86_400n,
      initial: 5n,
      description: "how long",
    },
    size: {
      kind: "integer",
      short: "s",
      value: "BYTES",
      minimum: 512n,
      maximum: 16_777_216n,
      initial: 4096n,
      description: "bytes of one operation",
    },
    read: { kind: "flag", description: "read (the default)" },
    write: { kind: "flag", description: "write instead of reading" },
    sequential: { kind: "flag", description: "one place after the other" },
    interrupts: { kind: "flag", description: "wait for interrupts only" },
    polled: { kind: "flag", description: "look for completions only (default: look, then wait, as it pays)" },
    yes: { kind: "flag", short: "y", description: "yes, destroy what is on the namespace" },
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 nvme bench 01:00.0 --depth 32 --seconds 10", text: "random reads of 4 KiB" },
    { command: "ring3 nvme bench 01:00.0 --interrupts --json", text: "latencies by interrupt, for a script" },
    { command: "ring3 nvme bench 01:00.0 --write --size 128K --sequential --yes", text: "writing in a row" },
  ],
  run: async ({ operands, options }, context) => {
    const { write, polled, interrupts, sequential } = options;
    if (write && options.read) throw new UsageError("--read or --write, not both");
    if (polled && interrupts) throw new UsageError("--polled or --interrupts, not both");
    if (write && !options.yes) throw new UsageError("--write destroys what is on the namespace: say --yes");
    const depth = Number(options.depth);
    const sizeBytes = Number(options.size);
    const completion: CompletionMode = polled ? "polled" : interrupts ? "interrupt" : "adaptive";
    const settings = { completion, queueDepth: depth + 1 };
    await using session = await startNvme(operands[0] ?? "", options, context, settings);
    const { driver } = session;
    const namespace = driver.namespace(Number(options.namespace));
    if (sizeBytes % namespace.blockSize !== 0 || options.size > namespace.sizeBytes) {
      throw new UsageError(
        `--size must be a multiple of the block size ${namespace.blockSize}, up to ${namespace.sizeBytes}`,
      );
    }
    const load = { depth, sizeBytes, seconds: Number(options.seconds), write, sequential };
    const { latencies, elapsedMs } = await measure(driver, namespace, load, context);
    const operations = latencies.count;
    const value = {
      address: session.address,
      backend: session.backend,
      operation: write ? "write" : "read",
      pattern: sequential ? "sequential" : "random",
      namespace: namespace.id,
      depth,
      sizeBytes,
      completion,
      interrupts: driver.queues.interrupts,
      seconds: elapsedMs / 1000,
      operations,
      operationsPerSecond: Math.round(operations / (elapsedMs / 1000)),
      bytesPerSecond: Math.round((operations * sizeBytes) / (elapsedMs / 1000)),
      latencyUs: latencies.summary(),
    };
    context.result(value, () => {
      const us = value.latencyUs;
      const rows = [
        ["work", `${value.pattern} ${value.operation}s of ${binarySize(sizeBytes)}, ${depth} in flight, ${completion}`],
        ["operations", `${value.operationsPerSecond} a second (${operations} in ${value.seconds.toFixed(1)} s)`],
        ["throughput", `${binarySize(value.bytesPerSecond)}/s`],
        ["latency", `mean ${us.mean} us, from ${us.minimum} to ${us.maximum} us`],
        ["", `50 %: ${us.p50}, 90 %: ${us.p90}, 99 %: ${us.p99}, 99.9 %: ${us.p999} us`],
      ];
      return `${context.style.bold(session.address)}\n${columns(rows, { indent: 2 })}`;
    });
  },
});

interface Load {
  readonly depth: number;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly write: boolean;
  readonly sequential: boolean;
}

async function measure(
  driver: NvmeDriver,
  namespace: Namespace,
  { depth, sizeBytes, seconds, write, sequential }: Load,
  context: Context,
): Promise<{ latencies: Latencies; elapsedMs: number }> {
  // The driver keeps one page of the buffer a slot at least, so that operations never share a page.
  const slotBytes = Math.ceil(sizeBytes / 4096) * 4096;
  using buffer = driver.allocate(depth * slotBytes);
  if (write) for (const [index] of buffer.words.entries()) buffer.words[index] = Math.imul(index, 0x9e37_79b1);
  const blocks = sizeBytes / namespace.blockSize;
  const places = Math.floor(Number(namespace.blocks) / blocks);
  const latencies = new Latencies();
  let turn = 0;
  const failure = new AbortController();
  const start = performance.now();
  const endMs = start + seconds * 1000;

  const worker = async (slot: number): Promise<void> => {
    const offset = slot * slotBytes;
    for (let now = performance.now(); now < endMs && !failure.signal.aborted && !context.signal.aborted; ) {
      const place = sequential ? turn++ % places : Math.floor(Math.random() * places);
      if (write) await namespace.writeFrom(buffer, place * blocks, blocks, offset);
      else await namespace.readInto(buffer, place * blocks, blocks, offset);
      const done = performance.now();
      latencies.add((done - now) * 1e6);
      now = done;
      if (slot === 0) {
        context.progress.update(() => {
          const elapsed = (done - start) / 1000;
          return `${elapsed.toFixed(0)} of ${seconds} s: ${Math.round(latencies.count / elapsed)} operations a second`;
        });
      }
    }
  };
  const workers = Array.from({ length: depth }, async (_, slot) => await worker(slot));
  // One failure ends all, and the buffer stays until the last operation on it has ended.
  const results = await Promise.allSettled(
    workers.map(
      async (work) =>
        await work.catch((error: unknown) => {
          failure.abort();
          throw error;
        }),
    ),
  );
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
  context.signal.throwIfAborted();
  return { latencies, elapsedMs: performance.now() - start };
}
