// What the figures were taken on.
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";

/** The machine in words, as it is now. */
export function machineFacts(): Record<string, string> {
  return {
    processor: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} usable`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${distribution()}, Linux ${release()}, ${process.arch}`,
    node: `${process.version}, V8 ${process.versions.v8}`,
    load: `${loadavg()
      .map((value) => value.toFixed(2))
      .join(" ")} (1, 5, 15 minutes)`,
  };
}

/** The clock ticks of proc(5) in a second, the same on every Linux. */
const TICKS = 100;

/**
 * Starts to watch the processors. The function that it returns says what share of their time other programs took since:
 * all but this process and the children that have ended.
 */
export function watchOthers(): () => number {
  const start = { ...processorSeconds(), own: ownSeconds() };
  return () => {
    const { busy, all } = processorSeconds();
    const others = busy - start.busy - (ownSeconds() - start.own);
    return Math.max(0, others / Math.max(all - start.all, 1e-3));
  };
}

function processorSeconds(): { busy: number; all: number } {
  let busy = 0;
  let all = 0;
  for (const { times } of cpus()) {
    busy += (times.user + times.nice + times.sys + times.irq) / 1000;
    all += (times.user + times.nice + times.sys + times.irq + times.idle) / 1000;
  }
  return { busy, all };
}

/** proc(5), /proc/pid/stat: utime, stime, cutime, cstime are fields 14 to 17; the second may contain spaces. */
function ownSeconds(): number {
  const fields = readFileSync("/proc/self/stat", "utf8")
    .replace(/^.*\) /s, "")
    .split(" ")
    .slice(11, 15);
  return fields.reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS;
}

function distribution(): string {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "unknown system";
  } catch {
    return "unknown system";
  }
}
