// Values of the Express registers as words, and the types of ports that decide which registers are shown.
import type { Format } from "./layout.ts";

/** Device and port types, of PCIe 6.0, section 7.5.3.2. */
export const PortType = {
  ENDPOINT: 0,
  LEGACY_ENDPOINT: 1,
  ROOT_PORT: 4,
  UPSTREAM: 5,
  DOWNSTREAM: 6,
  TO_PCI_BRIDGE: 7,
  FROM_PCI_BRIDGE: 8,
  INTEGRATED_ENDPOINT: 9,
  EVENT_COLLECTOR: 10,
} as const;

const L0S_LATENCY = ["<64ns", "<128ns", "<256ns", "<512ns", "<1us", "<2us", "<4us", "unlimited"];
const L1_LATENCY = ["<1us", "<2us", "<4us", "<8us", "<16us", "<32us", "<64us", "unlimited"];
export const SPEEDS: readonly string[] = [
  "unknown",
  "2.5GT/s",
  "5GT/s",
  "8GT/s",
  "16GT/s",
  "32GT/s",
  "64GT/s",
  "",
  "128GT/s",
];
/** By the bit in the vector of supported speeds. */
const VECTOR_SPEEDS = [...SPEEDS.slice(1, 7), "128GT/s"];
const TARGET_SPEEDS = ["2.5GT/s", ...SPEEDS.slice(1)];
const DE_EMPHASIS = ["-6dB", "-3.5dB"];
const or =
  (table: readonly string[], otherwise: string): ((value: number) => string) =>
  (value) =>
    table[value] || otherwise;

export const formats: Readonly<Record<string, Format>> = {
  l0s: L0S_LATENCY,
  l1: L1_LATENCY,
  speed: or(SPEEDS, "unknown"),
  targetSpeed: or(TARGET_SPEEDS, "Unknown"),
  payload: (value) => 128 << value,
  phantom: (value) => (1 << value) - 1,
  aspm: ["not supported", "L0s", "L1", "L0s L1"],
  aspmControl: ["Disabled", "L0s Enabled", "L1 Enabled", "L0s L1 Enabled"],
  boundary: ["64", "128"],
  indicator: ["Unknown", "On", "Blink", "Off"],
  ranges: (value) => {
    const known: Readonly<Record<number, string>> = {
      1: "A",
      2: "B",
      3: "AB",
      6: "BC",
      7: "ABC",
      14: "BCD",
      15: "ABCD",
    };
    return value === 0 ? "Not Supported" : known[value] === undefined ? "Unknown" : `Range ${known[value]}`;
  },
  timeout: or(
    [
      ...["50us to 50ms", "50us to 100us", "1ms to 10ms", "", "", "16ms to 55ms", "65ms to 210ms", "", ""],
      ...["260ms to 900ms", "1s to 3.5s", "", "", "4s to 13s", "17s to 64s"],
    ],
    "Unknown",
  ),
  obffSupport: ["Not Supported", "Via message", "Via WAKE#", "Via message/WAKE#"],
  obff: ["Disabled", "Via message A", "Via message B", "Via WAKE#"],
  emergency: ["Not Supported", "Dev Specific", "Form Factor Dev Specific", "Reserved"],
  cacheLines: ["Not Supported", "64byte cachelines", "128byte cachelines", "Reserved"],
  hints: ["TPHComp- ExtTPHComp-", "TPHComp+ ExtTPHComp-", "", "TPHComp+ ExtTPHComp+"],
  prefixes: (value) => (value === 0 ? 4 : value),
  speeds: (vector) => {
    const highest = 31 - Math.clz32(vector);
    return vector === 0 ? "Unknown" : highest === 0 ? "2.5GT/s" : `2.5-${VECTOR_SPEEDS[highest]}`;
  },
  deEmphasis: DE_EMPHASIS,
  margin: or(
    [
      "Normal Operating Range",
      "800-1200mV(full-swing)/400-700mV(half-swing)",
      ...Array<string>(4).fill("200-400mV(full-swing)/100-200mV(half-swing)"),
    ],
    "Unknown",
  ),
  preset: (value) => {
    const [emphasis, preshoot] =
      [
        ["-6dB", "0dB"],
        ["-3.5dB", "0dB"],
        ["-4.4dB", "0dB"],
        ["-2.5dB", "0dB"],
        ["0dB", "0dB"],
        ["0dB", "1.9dB"],
        ["0dB", "2.5dB"],
        ["-6.0dB", "3.5dB"],
        ["-3.5dB", "3.5dB"],
        ["0dB", "3.5dB"],
      ][value] ?? [];
    return emphasis === undefined ? "Unknown" : `${emphasis} de-emphasis, ${preshoot} preshoot`;
  },
  crosslink: ["unsupported", "Upstream Port", "Downstream Port", "incomplete"],
  presence: or(
    [
      "Link Down - Not Determined",
      "Link Down - Not Present",
      "Link Down - Present",
      "",
      "Link Up - Present",
      "Link Up - Present and DRS Received",
    ],
    "Reserved",
  ),
};

/** Ports whose link leads down. */
export function isDownstream(type: number): boolean {
  return type === PortType.ROOT_PORT || type === PortType.DOWNSTREAM || type === PortType.FROM_PCI_BRIDGE;
}
