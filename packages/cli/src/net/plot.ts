// Curves over time as an SVG: panels below each other with one time axis, and no script, font or file beside it.

/** Seconds and a value. */
export type PlotPoint = readonly [seconds: number, value: number];

interface PlotCurve {
  readonly name: string;
  readonly points: readonly PlotPoint[];
}

export interface PlotPanel {
  readonly title: string;
  readonly curves: readonly PlotCurve[];
}

const WIDTH = 840;
const PANEL_HEIGHT = 240;
const LEFT = 90;
const RIGHT = 20;
const TOP = 46;
const BOTTOM = 34;
const COLOURS = ["#1565c0", "#c62828", "#2e7d32", "#ef6c00", "#6a1b9a", "#00838f"];

/** Draws `panels`, those without points left out. */
export function plotSvg(title: string, panels: readonly PlotPanel[]): string {
  const shown = panels.filter(({ curves }) => curves.some(({ points }) => points.length > 0));
  const height = 30 + shown.length * PANEL_HEIGHT;
  const seconds = Math.max(
    1e-9,
    ...shown.flatMap(({ curves }) => curves.flatMap(({ points }) => points.map(([x]) => x))),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${LEFT}" y="20" font-size="15">${escaped(title)}</text>`,
    ...shown.map((panel, i) => `<g transform="translate(0 ${30 + i * PANEL_HEIGHT})">${drawn(panel, seconds)}</g>`),
    "</svg>\n",
  ].join("\n");
}

function drawn({ title, curves }: PlotPanel, seconds: number): string {
  const top = niceCeiling(Math.max(1e-9, ...curves.flatMap(({ points }) => points.map(([, y]) => y))));
  const [width, height] = [WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM];
  const x = (value: number): string => (LEFT + (value / seconds) * width).toFixed(1);
  const y = (value: number): string => (TOP + height - (value / top) * height).toFixed(1);
  const parts = [`<text x="${LEFT}" y="16" font-weight="bold">${escaped(title)}</text>`];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = top * share;
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}" stroke="#ddd"/>`);
    parts.push(`<text x="${LEFT - 6}" y="${y(value)}" dy="4" text-anchor="end">${label(value)}</text>`);
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = seconds * share;
    parts.push(`<text x="${x(value)}" y="${PANEL_HEIGHT - BOTTOM + 18}" text-anchor="middle">${label(value)} s</text>`);
  }
  let legend = LEFT;
  for (const [i, { name, points }] of curves.entries()) {
    const colour = COLOURS[i % COLOURS.length] ?? "black";
    const path = points.map(([px, py], at) => `${at === 0 ? "M" : "L"}${x(px)} ${y(py)}`).join(" ");
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`);
    // A curve of one point would not be seen.
    const [only] = points;
    if (points.length === 1 && only !== undefined) {
      parts.push(`<circle cx="${x(only[0])}" cy="${y(only[1])}" r="3" fill="${colour}"/>`);
    }
    parts.push(`<text x="${legend}" y="34" fill="${colour}">${escaped(name)}</text>`);
    legend += 20 + 7 * name.length;
  }
  return parts.join("\n");
}

/** The next of 1, 2, 2.5, 5 times a power of ten. */
function niceCeiling(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 2.5, 5].find((step) => value <= step * power) ?? 10);
}

function label(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toFixed(2))} M`;
  if (value >= 1e4) return `${Number((value / 1e3).toFixed(1))} k`;
  return String(Number(value.toPrecision(3)));
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
