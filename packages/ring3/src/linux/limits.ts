// What the process may lock and open, and how much of it is used.
import { readdirSync, readFileSync } from "node:fs";
import { Ring3Error } from "../binary/error.ts";
import * as native from "./native.ts";

const RLIMIT = { NOFILE: 7, MEMLOCK: 8 } as const;
const INFINITY = 2n ** 64n - 1n;

/** A limit and where it can be raised to; `undefined` for none. */
export interface Limit {
  readonly current: number | undefined;
  readonly maximum: number | undefined;
}

/** RLIMIT_MEMLOCK in bytes. Root is not bound by it where it has CAP_IPC_LOCK. */
export function lockedMemoryLimit(): Limit {
  return limit(RLIMIT.MEMLOCK);
}

/** RLIMIT_NOFILE: one more than the highest descriptor. */
export function openFilesLimit(): Limit {
  return limit(RLIMIT.NOFILE);
}

/** Bytes that count against RLIMIT_MEMLOCK: `VmLck` (VFIO's type1, mlock) and `VmPin` (iommufd). */
export function lockedMemory(): { readonly lockedBytes: number; readonly pinnedBytes: number } {
  const status = readFileSync("/proc/self/status", "utf8");
  const bytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024;
  return { lockedBytes: bytes("VmLck"), pinnedBytes: bytes("VmPin") };
}

/** Whether the process holds CAP_IPC_LOCK, which lifts RLIMIT_MEMLOCK. */
export function mayLockWithoutLimit(): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  return ((effective >> 14n) & 1n) === 1n;
}

/** How many descriptors are open. */
export function openFilesCount(): number {
  return readdirSync("/proc/self/fd").length - 1;
}

/** Descriptors that are left to the rest of the program when many vectors are asked for. */
const SPARE_DESCRIPTORS = 8;

/** Each interrupt vector takes a descriptor; running out of them half-way would leave others without. Throws `NOFILE_LIMIT`. */
export function checkDescriptors(count: number): void {
  const limit = openFilesLimit().current;
  if (limit === undefined || count < SPARE_DESCRIPTORS) return;
  const used = openFilesCount();
  if (used + count + SPARE_DESCRIPTORS <= limit) return;
  throw new Ring3Error(
    "NOFILE_LIMIT",
    `${count} vectors take a descriptor each, and ${used} of RLIMIT_NOFILE's ${limit} are in use; ` +
      `raise it with \`ulimit -n ${used + count + 64}\` or LimitNOFILE=, or use fewer vectors`,
    { errno: "EMFILE" },
  );
}

function limit(resource: number): Limit {
  const values = new BigUint64Array(2);
  native.systemCall("prlimit", () => native.prlimit(0, resource, null, new Uint8Array(values.buffer)));
  const number = (value: bigint | undefined): number | undefined =>
    value === undefined || value === INFINITY ? undefined : Number(value);
  return { current: number(values[0]), maximum: number(values[1]) };
}
