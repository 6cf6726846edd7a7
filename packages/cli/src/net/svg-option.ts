// --svg of the commands that measure.
import { writeFileSync } from "node:fs";
import type { Meter } from "./meter.ts";
import { type PlotPanel, plotSvg } from "./plot.ts";

export const SVG_OPTION = {
  svg: {
    kind: "text",
    value: "FILE",
    description: "draw rates, and latencies where there are any, over time into FILE",
  },
} as const;

/** Draws what the meter saw, where that was asked for. `volumes`: rates of another size, as bytes beside frames. */
export function writeSvg(
  file: string | undefined,
  title: string,
  meter: Meter,
  rates: readonly string[],
  volumes: readonly string[] = [],
): void {
  if (file === undefined) return;
  const curves = (names: readonly string[]): PlotPanel["curves"] =>
    names.map((name) => ({ name, points: meter.rates(name) }));
  const panels: PlotPanel[] = [
    { title: "a second", curves: curves(rates) },
    { title: "bytes a second", curves: curves(volumes) },
    {
      title: "latency in microseconds",
      curves: [
        { name: "p50", points: meter.latency("p50") },
        { name: "p99", points: meter.latency("p99") },
        { name: "p99.9", points: meter.latency("p999") },
      ],
    },
  ];
  writeFileSync(file, plotSvg(title, panels));
}
