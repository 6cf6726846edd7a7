// What a trace costs a driver for each event: register accesses of a device in process with a trace before them and without,
// decoded and written as JSON lines to a file, and the same without the file.
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JsonLines, traced } from "ring3/trace";
import { nvmeRegisters } from "ring3/specs/nvme";
import { type FunctionDeclaration, inProcess, VirtualFunction } from "ring3/virtual";
import type { BenchmarkContext, BenchmarkResult, Section } from "../benchmark.ts";

export const name = "trace";
export const title = "the cost of a traced register access: read the clock, decode, write a line of JSON";

const EVENTS = 200_000;
const QUICK_EVENTS = 20_000;
const GOAL_US = 2;

/** A register that keeps what is written: as little of a device as there can be. */
function declaration(): FunctionDeclaration {
  let value = 0;
  return {
    vendorId: 0x1234,
    deviceId: 0x0add,
    classCode: 0x010802,
    bars: {
      0: {
        size: 16384,
        read32: () => value,
        write32: (_offset, written) => {
          value = written;
        },
      },
    },
  };
}

type Loop = (
  registers: { read32(offset: number): number; write32(offset: number, value: number): void },
  count: number,
) => void;

const loops: Readonly<Record<string, Loop>> = {
  "reads of a status register (CSTS)": (registers, count) => {
    for (let i = 0; i < count; i++) registers.read32(0x1c);
  },
  "doorbells, a new value each time": (registers, count) => {
    for (let i = 0; i < count; i++) registers.write32(0x1008, i & 0x3ff);
  },
  "a register of eight fields, a new value each time (CC)": (registers, count) => {
    for (let i = 0; i < count; i++) registers.write32(0x14, 0x0046_0001 ^ ((i & 0x7f) << 7));
  },
};

export async function run({ rounds, quick, begin, progress }: BenchmarkContext): Promise<BenchmarkResult> {
  const events = quick ? QUICK_EVENTS : EVENTS;
  const directory = mkdtempSync(join(tmpdir(), "ring3-trace-bench-"));
  const samples: Record<string, { plain: number[]; memory: number[]; file: number[] }> = {};
  try {
    begin();
    // The first round compiles.
    for (let round = -1; round < rounds; round++) {
      for (const [what, loop] of Object.entries(loops)) {
        const plain = await measure(loop, events);
        const memory = await measure(loop, events, () => undefined);
        const fd = openSync(join(directory, "trace.jsonl"), "w");
        const file = await measure(loop, events, (text) => void writeSync(fd, text));
        closeSync(fd);
        if (round < 0) continue;
        const found = (samples[what] ??= { plain: [], memory: [], file: [] });
        found.plain.push(plain);
        found.memory.push(memory - plain);
        found.file.push(file - plain);
      }
      progress(`round ${round + 1} of ${rounds}`);
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  const sections = Object.entries(samples).map(
    ([what, { plain, memory, file }]): Section => ({
      title: what,
      unit: "us an access",
      better: "less",
      series: [
        { name: "the access itself", samples: plain },
        { name: "added by a trace to nowhere", samples: memory },
        { name: "added by a trace to a file", samples: file },
      ],
      comparisons: [{ kind: "value", of: "added by a trace to a file", to: [], goal: { at: "most", value: GOAL_US } }],
    }),
  );
  return { sections, machine: {}, notes: [`${events} accesses for each sample, of a device in the same process`] };
}

/** Microseconds for each access; traced where there is a `write` for the lines. */
async function measure(loop: Loop, events: number, write?: (text: string) => void): Promise<number> {
  const inner = inProcess(new VirtualFunction(declaration()));
  const lines = new JsonLines(write ?? (() => undefined));
  await using fn = write === undefined ? inner : traced(inner, lines, { registers: nvmeRegisters() });
  const registers = fn.bar(0).registers();
  loop(registers, events / 10);
  const start = performance.now();
  loop(registers, events);
  lines.flush();
  return ((performance.now() - start) * 1000) / events;
}
