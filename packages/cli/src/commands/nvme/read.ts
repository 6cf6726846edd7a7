// ring3 nvme read: blocks to a file, to stdout or as a hex dump. Pieces are read ahead of what is being written out.
import type { Namespace } from "ring3/nvme";
import { type Command, command } from "../../command.ts";
import type { Context } from "../../context.ts";
import { OPEN_OPTIONS } from "../../open-function.ts";
import { binarySize } from "../../text.ts";
import { UsageError } from "../../usage-error.ts";
import { CONTROLLER, checkBlocks, NAMESPACE_OPTION, PIECE_BYTES, startNvme } from "./session.ts";

export const read: Command = command({
  summary: "read blocks",
  description:
    "To a terminal, and with --hex, as a hex dump; else the bytes as they are. With --json, the bytes as hexadecimal digits.",
  operands: [CONTROLLER],
  options: {
    ...NAMESPACE_OPTION,
    block: { kind: "integer", short: "b", value: "N", initial: 0n, description: "the first block" },
    count: { kind: "integer", short: "c", value: "M", minimum: 1n, initial: 1n, description: "how many blocks" },
    output: { kind: "text", short: "o", value: "FILE", description: "where to; - is stdout (the default)" },
    hex: { kind: "flag", short: "x", description: "as a hex dump" },
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 nvme read 01:00.0 --block 0 --hex", text: "the first block, to look at" },
    { command: "ring3 nvme read 01:00.0 --count 2M --output disk.img", text: "2,097,152 blocks into a file" },
    { command: "ring3 nvme read 01:00.0 --count 8 | sha256sum", text: "bytes into another program" },
  ],
  run: async ({ operands, options }, context) => {
    const { block, count } = options;
    const toFile = options.output !== undefined && options.output !== "-";
    if (context.json && !toFile && count > 65_536n)
      throw new UsageError("--json of more than 65536 blocks: use --output FILE");
    await using session = await startNvme(operands[0] ?? "", options, context);
    const namespace = session.driver.namespace(Number(options.namespace));
    checkBlocks(block, count, namespace.blocks);
    const asDump = options.hex || (!toFile && !context.json && context.streams.stdout.isTTY === true);
    await using target = await openTarget(toFile ? options.output : undefined, context);
    const { hexdump } = await import("ring3/binary");
    const collected: Uint8Array[] = [];
    const digits = Math.max(4, ((block + count) * BigInt(namespace.blockSize)).toString(16).length);
    const start = performance.now();
    for await (const { first, bytes } of pieces(namespace, block, count, context)) {
      if (context.json && !toFile) collected.push(bytes);
      else if (asDump) {
        const dump = hexdump(bytes, Number(first) * namespace.blockSize, digits);
        await target.write(new TextEncoder().encode(`${dump}\n`));
      } else await target.write(bytes);
    }
    const tookMs = performance.now() - start;
    if (!context.json && !toFile) return;
    const value = {
      address: session.address,
      namespace: namespace.id,
      block,
      count,
      blockSize: namespace.blockSize,
      output: toFile ? options.output : undefined,
      data: toFile ? undefined : Buffer.concat(collected),
      tookMs,
    };
    const size = binarySize(count * BigInt(namespace.blockSize));
    context.result(value, () => `${size} in ${options.output} (${(tookMs / 1000).toFixed(2)} s)`);
  },
});

/** The blocks in order, in pieces; the next piece is under way while the caller has one. */
async function* pieces(
  namespace: Namespace,
  block: bigint,
  count: bigint,
  context: Context,
): AsyncGenerator<{ first: bigint; bytes: Uint8Array }> {
  const pieceBlocks = BigInt(Math.max(1, Math.floor(PIECE_BYTES / namespace.blockSize)));
  const end = block + count;
  const begin = (first: bigint): Promise<Uint8Array> | undefined => {
    if (first >= end) return undefined;
    const blocks = first + pieceBlocks < end ? pieceBlocks : end - first;
    const reading = namespace.read(first, Number(blocks));
    // Its failure is met when it is awaited; until then it must not count as unhandled.
    reading.catch(() => undefined);
    return reading;
  };
  let next = begin(block);
  for (let first = block; next !== undefined; first += pieceBlocks) {
    const bytes = await context.unlessAborted(next);
    next = begin(first + pieceBlocks);
    yield { first, bytes };
    context.progress.update(() => `read ${(((first - block) * 100n) / count).toString()} %`);
  }
}

interface Target extends AsyncDisposable {
  write(bytes: Uint8Array): Promise<void>;
}

async function openTarget(path: string | undefined, context: Context): Promise<Target> {
  if (path === undefined) {
    return { write: async (bytes) => await context.write(bytes), [Symbol.asyncDispose]: async () => undefined };
  }
  const { open } = await import("node:fs/promises");
  const file = await open(path, "w");
  return {
    write: async (bytes) => await file.writeFile(bytes),
    [Symbol.asyncDispose]: async () => await file.close(),
  };
}
