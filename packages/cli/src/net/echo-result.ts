// What an echo client found, for people and for programs.
import type { LatencySummary } from "../latency.ts";
import { columns, type Style } from "../text.ts";
import type { EchoCounts, EchoLoad } from "./echo-client.ts";
import { amount, type Meter } from "./meter.ts";

export interface EchoResult extends EchoCounts {
  readonly target: string;
  readonly sizeBytes: number;
  readonly window: number;
  readonly seconds: number;
  readonly datagramsPerSecond: number;
  readonly latencyUs: LatencySummary;
  /** Counts of latencies by upper bounds in microseconds. */
  readonly histogram: readonly { readonly belowUs: number; readonly count: number }[];
}

export function echoResult(
  { address, port, sizeBytes, window }: EchoLoad,
  counts: EchoCounts,
  meter: Meter,
): EchoResult {
  const { seconds } = meter;
  return {
    target: `${address}:${port}`,
    sizeBytes,
    window,
    ...counts,
    seconds,
    datagramsPerSecond: Math.round(counts.received / Math.max(seconds, 1e-9)),
    latencyUs: meter.latencies.summary(),
    histogram: meter.latencies.histogram(),
  };
}

const BAR_WIDTH = 40;

export function echoText(result: EchoResult, style: Style): string {
  const us = result.latencyUs;
  const rows = [
    [
      "datagrams",
      `${result.sent} sent, ${result.received} back, ${result.lost} lost, ${result.late} late or twice, ${result.corrupt} corrupt`,
    ],
    ["rate", `${amount(result.datagramsPerSecond)} a second, ${result.sizeBytes} bytes, ${result.window} at once`],
    ["round trip", `mean ${us.mean} us, from ${us.minimum} to ${us.maximum} us`],
    ["", `50 %: ${us.p50}, 90 %: ${us.p90}, 99 %: ${us.p99}, 99.9 %: ${us.p999} us`],
  ];
  const most = Math.max(1, ...result.histogram.map(({ count }) => count));
  const bars = result.histogram.map(({ belowUs, count }) => [
    `below ${belowUs} us`,
    String(count),
    "#".repeat(Math.ceil((BAR_WIDTH * count) / most)),
  ]);
  return `${style.bold(result.target)}\n${columns(rows, { indent: 2 })}\n${columns(bars, { indent: 2 })}`;
}
