// What a contract suite needs to know about the function that it is given, and small tools of its tests.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import type { BarIndex, PciFunction } from "../../packages/ring3/src/pci/function.ts";

/** A 32-bit register by BAR and byte offset. */
interface RegisterPlace {
  readonly bar: BarIndex;
  readonly offset: number;
}

export interface ContractFixture {
  readonly fn: PciFunction;
  /** A register that never changes by itself and may be read at any time. */
  readonly constant?: RegisterPlace;
  /** A register that keeps the bits of `mask` as written, without side effects. */
  readonly scratch?: RegisterPlace & { readonly mask: number };
  /** Lets the function copy memory to memory by DMA; resolves when it says that it is done. */
  readonly copy?: (sourceIova: number, targetIova: number, size: number) => Promise<void>;
  /** Highest IOVA that `copy` reaches, plus one. */
  readonly copyBelow?: number;
}

/** Opens a fresh function; whatever it takes to close it besides disposing `fn` is the fixture's business. */
export type OpenFixture = (t: TestContext) => Promise<ContractFixture>;

/** Asserts that `action` throws a Ring3Error with one of these codes. */
export function throwsCode(action: () => unknown, ...codes: readonly string[]): void {
  assert.throws(action, (error: unknown) => hasCode(error, codes));
}

/** Asserts that `promise` rejects with a Ring3Error with one of these codes. */
export async function rejectsCode(promise: Promise<unknown>, ...codes: readonly string[]): Promise<void> {
  await assert.rejects(promise, (error: unknown) => hasCode(error, codes));
}

function hasCode(error: unknown, codes: readonly string[]): true {
  const got = error instanceof Error ? `${error.name}: ${error.message}` : error;
  assert.ok(isRing3Error(error) && codes.includes(error.code), `expected ${codes.join(" or ")}, got ${String(got)}`);
  return true;
}

export const barIndexes: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
