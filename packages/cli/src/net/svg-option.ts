// --svg of the commands that measure.
import { writeFileSync } from "node:fs";
import type { Meter } from "./meter.ts";
import { type PlotPanel, plotSvg } from "./plot.ts";

export const SVG_OPTION = {
  svg: { kind: "text", value: "FILE", description: "draw rates and latencies over time into FILE" },
} as const;

/** Draws what the meter saw, where that was asked for. */
export function writeSvg(file: string | undefined, title: string, meter: Meter, rates: readonly string[]): void {
  if (file === undefined) return;
  const panels: PlotPanel[] = [
    { title: "a second", curves: rates.map((name) => ({ name, points: meter.rates(name) })) },
    {
      title: "latency in microseconds",
      curves: [
        { name: "p50", points: meter.latency("p50") },
        { name: "p99", points: meter.latency("p99") },
      ],
    },
  ];
  writeFileSync(file, plotSvg(title, panels));
}
