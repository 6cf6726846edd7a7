// What a trace must show of a guest's own NVMe driver that found its controller: Linux, drivers/nvme/host/pci.c, in its order.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { eventText, isAccess, parseTrace, type TraceEvent } from "../../packages/ring3/src/mediation/trace/index.ts";
import { findTshark } from "./tshark.ts";

const COMMAND = join(import.meta.dirname, "../../packages/cli/src/main.ts");
/** The trace is written at least this often. */
const WRITTEN_MS = 200;
const LOOKS = 50;

/** In this order, other accesses in between. The firmware's driver comes before, with queues of another size. */
const PROBING: readonly RegExp[] = [
  /^read {2}config VENDOR_ID/,
  /^write config BAR0 = 0xffffffff/,
  /^write config COMMAND = .*MEMORY/,
  /^read {2}bar0 CAP_LOW = /,
  /^write bar0 CC = 0x00000000/,
  /^write bar0 AQA = 0x001f001f \{ASQS 0x1f, ACQS 0x1f\}/,
  /^write bar0 ASQ_LOW = /,
  /^write bar0 ACQ_LOW = /,
  /^write bar0 CC = .*EN 0x1, .*IOSQES 0x6, IOCQES 0x4/,
  /^read {2}bar0 CSTS = .*RDY 0x1/,
  /^write bar0 SQ0TDBL = 0x00000001/,
  /^interrupt msix 0/,
  /^write bar0 CQ0HDBL = 0x00000001/,
  /^write config MSI-X.CONTROL = .*MSIX_ENABLE/,
  /^write bar0 SQ[1-9]TDBL = 0x00000001/,
  /^interrupt msix/,
  /^write bar0 CQ[1-9]HDBL = 0x00000001/,
];

/** Asserts that the trace in `file`, which may still grow, shows it; in JSON lines, and by tshark where there is one. */
export async function probingIn(file: string, t: TestContext): Promise<void> {
  let missing: RegExp | undefined;
  let events: readonly TraceEvent[] = [];
  for (let look = 0; look < LOOKS; look++) {
    events = existsSync(file) ? parseTrace(readFileSync(file, "utf8")).events : [];
    missing = firstMissing(events.map((event) => eventText(event, false)));
    if (missing === undefined) break;
    await pause(WRITTEN_MS);
  }
  assert.equal(missing, undefined, `of ${events.length} events none is that one`);
  const [first] = events;
  assert.ok(first?.type === "open" && first.side === "device" && /pid \d+/.test(first.user ?? ""));
  const accesses = events.filter(isAccess);
  assert.ok(
    accesses.every(({ type, decoded }) => type !== "bar" || decoded !== undefined),
    "every register has its name",
  );
  t.diagnostic(`${events.length} events, ${accesses.length} accesses`);

  const tshark = findTshark();
  if (tshark === undefined) {
    t.diagnostic("no tshark on this machine: only JSON lines were looked at");
    return;
  }
  const capture = `${file}.pcapng`;
  execFileSync(process.execPath, [COMMAND, "trace", "convert", file, "-w", capture]);
  const lines = tshark(capture, ["-T", "fields", "-e", "_ws.col.Info"]);
  assert.equal(firstMissing(lines), undefined, lines.join("\n"));
  const enabling = tshark(capture, [
    "-Y",
    'ring3.register == "CC" && ring3.op == 1',
    "-T",
    "fields",
    "-e",
    "ring3.field",
  ]);
  assert.ok(
    enabling.some((fields) => fields.includes("EN: 0x1") && fields.includes("IOSQES: 0x6")),
    enabling.join("\n"),
  );
}

function firstMissing(lines: readonly string[]): RegExp | undefined {
  let at = 0;
  return PROBING.find((wanted) => {
    const found = lines.findIndex((line, index) => index >= at && wanted.test(line));
    at = found + 1;
    return found < 0;
  });
}
