// What the nvme commands share: opening and starting, their operand and options, ranges of blocks.
import type { NvmeDriver, NvmeOptions } from "ring3/nvme";
import type { OperandDeclaration } from "../../command.ts";
import type { Context } from "../../context.ts";
import { type Opening, openFunction } from "../../open-function.ts";
import { UsageError } from "../../usage-error.ts";

export const CONTROLLER: OperandDeclaration = {
  name: "ADDRESS",
  description: "an NVMe controller that you may open (ring3 ls), or vfio-user:PATH",
};

/** Which namespace. */
export const NAMESPACE_OPTION = {
  namespace: {
    kind: "integer",
    short: "n",
    value: "ID",
    minimum: 1n,
    maximum: 0xffff_fffen,
    initial: 1n,
    description: "the namespace",
  },
} as const;

/** A started controller; disposal shuts it down, then closes its function. */
export interface NvmeSession extends AsyncDisposable {
  readonly driver: NvmeDriver;
  readonly address: string;
  readonly backend: string;
}

/** Opens the function and starts the driver. */
export async function startNvme(
  address: string,
  opening: Opening,
  context: Context,
  options: NvmeOptions = {},
): Promise<NvmeSession> {
  await using resources = new AsyncDisposableStack();
  const fn = resources.use(await openFunction(address, opening, context));
  const { NvmeDriver } = await import("ring3/nvme");
  const driver = resources.use(await NvmeDriver.start(fn, options));
  context.signal.throwIfAborted();
  const session = resources.move();
  return {
    driver,
    address: fn.identity.address,
    backend: fn.identity.backend,
    [Symbol.asyncDispose]: async () => await session.disposeAsync(),
  };
}

/** Checks a run of blocks against the namespace, so that the message speaks of options. */
export function checkBlocks(first: bigint, count: bigint, blocks: bigint): void {
  if (first + count <= blocks) return;
  throw new UsageError(
    `the namespace has ${blocks} blocks, 0 to ${blocks - 1n}: --block ${first} --count ${count} passes its end`,
  );
}

/** Bytes that a transfer of many blocks takes in one go: large enough to keep the controller busy. */
export const PIECE_BYTES: number = 1024 * 1024;
