// Echo with an account: so many datagrams to a service and back, none of them damaged or doubled, and each that was lost found
// again in a counter of the two stacks and their devices, or of the kernel's.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { Stack } from "../../packages/ring3/src/drivers/net/stack.ts";
import { echo } from "./echo.ts";
import { rootOutput } from "./inside.ts";

const WINDOW = 64;

/** Counters by their names. */
export type Counters = Readonly<Record<string, number>>;

export interface Rally {
  readonly name: string;
  readonly service: { readonly address: string; readonly port: number };
  readonly datagrams: number;
  /** Where datagrams may be lost. */
  readonly losses: () => Promise<Counters> | Counters;
}

/** Echoes, says how fast, and how many were lost where. */
export async function rally(t: TestContext, stack: Stack, { name, service, datagrams, losses }: Rally): Promise<void> {
  const before = await losses();
  const start = performance.now();
  const progress = (good: number): void => console.log(`${name}: ${good} are back`);
  const { good, wrong, twice } = await echo(stack, service, datagrams, { window: WINDOW, progress });
  const rate = Math.round(datagrams / ((performance.now() - start) / 1000));
  const after = await losses();
  const found = Object.entries(after).flatMap(([where, count]) => {
    const lost = count - (before[where] ?? 0);
    return lost === 0 ? [] : [[where, lost] as const];
  });
  const lost = datagrams - good;
  const story = `${lost} lost: ${found.map(([where, count]) => `${count} ${where}`).join(", ") || "nothing counted"}`;
  t.diagnostic(
    `${name}: ${datagrams} datagrams, ${rate} round trips a second, ${wrong} wrong, ${twice} twice, ${story}`,
  );
  assert.deepEqual({ wrong, twice }, { wrong: 0, twice: 0 });
  assert.ok(lost <= found.reduce((sum, [, count]) => sum + count, 0), story);
}

/** What a stack and its device dropped, by their counters. */
export function dropped(name: string, { statistics, device }: Stack): Counters {
  const { rx_missed_errors, rx_dropped, tx_dropped } = device.statistics();
  const { ringFull, noBuffer, unresolved } = statistics;
  const counts = { rx_missed_errors, rx_dropped, tx_dropped, ringFull, noBuffer, unresolved };
  return Object.fromEntries(Object.entries(counts).map(([key, count]) => [`${key} of ${name}`, count]));
}

/** The same for the kernel's stack on `interfaceName`. */
export async function kernelDropped(interfaceName: string): Promise<Counters> {
  const names = ["rx_missed_errors", "rx_dropped", "tx_dropped"];
  const files = names.map((file) => `/sys/class/net/${interfaceName}/statistics/${file}`);
  const text = await rootOutput(`cat ${files.join(" ")}; grep ^Udp: /proc/net/snmp`);
  const lines = text.trim().split("\n");
  const counts = names.map((file, i) => [`${file} of the kernel`, Number(lines[i])] as const);
  const [heads = [], values = []] = lines.slice(names.length).map((line) => line.split(" "));
  const errors = ["InErrors", "SndbufErrors"].map((head) => {
    return [`Udp ${head} of the kernel`, Number(values[heads.indexOf(head)])] as const;
  });
  return Object.fromEntries([...counts, ...errors]);
}
