// ring3 nvme write: bytes from a file or stdin to blocks. What was there is lost, so it asks first.
import { fstatSync } from "node:fs";
import type { Namespace } from "ring3/nvme";
import { type Command, command } from "../../command.ts";
import type { Context } from "../../context.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { binarySize } from "../../text.ts";
import { UsageError } from "../../usage-error.ts";
import { CONTROLLER, checkBlocks, NAMESPACE_OPTION, PIECE_BYTES, startNvme } from "./session.ts";

export const write: Command = command({
  summary: "write blocks; what was there is lost",
  description:
    "The input must be whole blocks. Without --yes it asks, and where nobody can answer it refuses. Ends with a flush.",
  operands: [CONTROLLER],
  options: {
    ...NAMESPACE_OPTION,
    block: { kind: "integer", short: "b", value: "N", initial: 0n, description: "the first block" },
    input: { kind: "text", short: "i", value: "FILE", description: "where from; - is stdin (the default)" },
    yes: { kind: "flag", short: "y", description: "do not ask" },
    pad: { kind: "flag", description: "fill the last block with zeroes where the input ends inside it" },
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 nvme write 01:00.0 --block 0 --input disk.img --yes", text: "an image to the disk" },
    { command: "echo hello | ring3 nvme write 01:00.0 --block 8 --pad --yes", text: "a line into block 8" },
  ],
  run: async ({ operands, options }, context) => {
    await using source = await openSource(options.input, context);
    if (!options.yes) await confirm(operands[0] ?? "", options.namespace, options.block, source, context);
    await using session = await startNvme(operands[0] ?? "", options, context);
    const namespace = session.driver.namespace(Number(options.namespace));
    const start = performance.now();
    const written = await copy(source, namespace, options.block, options.pad, context);
    await context.unlessAborted(namespace.flush());
    const tookMs = performance.now() - start;
    const value = {
      address: session.address,
      namespace: namespace.id,
      block: options.block,
      count: written,
      blockSize: namespace.blockSize,
      tookMs,
    };
    context.result(value, () => {
      const size = binarySize(written * BigInt(namespace.blockSize));
      return `${size} written to ${written} blocks from ${options.block} on, and flushed (${(tookMs / 1000).toFixed(2)} s)`;
    });
  },
});

interface Source extends AsyncDisposable {
  readonly name: string;
  /** In bytes, where it is known before reading. */
  readonly size: number | undefined;
  readonly chunks: AsyncIterable<Uint8Array>;
}

async function openSource(path: string | undefined, context: Context): Promise<Source> {
  if (path === undefined || path === "-") {
    const { stdin } = context.streams;
    return { name: "stdin", size: undefined, chunks: stdin, [Symbol.asyncDispose]: async () => void stdin.destroy() };
  }
  const { open } = await import("node:fs/promises");
  const file = await open(path, "r");
  const chunks = file.createReadStream({ highWaterMark: PIECE_BYTES, autoClose: false });
  const stats = fstatSync(file.fd);
  return {
    name: path,
    size: stats.isFile() ? stats.size : undefined,
    chunks,
    [Symbol.asyncDispose]: async () => {
      chunks.destroy();
      await file.close();
    },
  };
}

async function confirm(
  address: string,
  namespace: bigint,
  block: bigint,
  source: Source,
  context: Context,
): Promise<void> {
  const { stdin, stderr } = context.streams;
  if (source.name === "stdin" || stdin.isTTY !== true || stderr.isTTY !== true || context.json) {
    throw new UsageError("write destroys what is on the blocks: say --yes");
  }
  const { createInterface } = await import("node:readline/promises");
  const terminal = createInterface({ input: stdin, output: stderr });
  try {
    const size = source.size === undefined ? "" : `${binarySize(source.size)} of `;
    const question = `Write ${size}${source.name} over namespace ${namespace} of ${address}, from block ${block} on? Type yes: `;
    const answer = await terminal.question(question, { signal: context.signal });
    if (answer.trim().toLowerCase() !== "yes") throw new UsageError("not confirmed, nothing was written");
  } finally {
    terminal.close();
  }
}

/** Writes everything in pieces of whole blocks, one piece under way while the next is read; returns the blocks written. */
async function copy(
  source: Source,
  namespace: Namespace,
  first: bigint,
  pad: boolean,
  context: Context,
): Promise<bigint> {
  const { blockSize } = namespace;
  if (source.size !== undefined) checkSize(source.size, blockSize, first, namespace, pad);
  let written = 0n;
  let underWay: Promise<void> = Promise.resolve();
  const put = async (bytes: Uint8Array): Promise<void> => {
    const blocks = BigInt(bytes.length / blockSize);
    checkBlocks(first + written, blocks, namespace.blocks);
    await context.unlessAborted(underWay);
    underWay = namespace.write(first + written, bytes);
    underWay.catch(() => undefined);
    written += blocks;
    context.progress.update(() => {
      const done = binarySize(written * BigInt(blockSize));
      return source.size === undefined ? `written ${done}` : `written ${done} of ${binarySize(source.size)}`;
    });
  };
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  const take = (bytes: number): Uint8Array => {
    const joined = Buffer.concat(rest);
    rest = bytes < joined.length ? [joined.subarray(bytes)] : [];
    restBytes = joined.length - bytes;
    return joined.subarray(0, bytes);
  };
  for await (const chunk of source.chunks) {
    context.signal.throwIfAborted();
    rest.push(chunk);
    restBytes += chunk.length;
    if (restBytes >= PIECE_BYTES) await put(take(restBytes - (restBytes % blockSize)));
  }
  if (restBytes % blockSize !== 0) {
    if (!pad) throw partialBlock(blockSize);
    const missing = blockSize - (restBytes % blockSize);
    rest.push(new Uint8Array(missing));
    restBytes += missing;
  }
  if (restBytes > 0) await put(take(restBytes));
  await context.unlessAborted(underWay);
  return written;
}

function checkSize(size: number, blockSize: number, first: bigint, namespace: Namespace, pad: boolean): void {
  if (size % blockSize !== 0 && !pad) throw partialBlock(blockSize);
  checkBlocks(first, BigInt(Math.ceil(size / blockSize)), namespace.blocks);
}

function partialBlock(blockSize: number): UsageError {
  return new UsageError(`the input ends inside a block of ${blockSize} bytes: say --pad to fill it with zeroes`);
}
