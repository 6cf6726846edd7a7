// ring3d as root in the guest, and what it says.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { statSync } from "node:fs";
import { createInterface } from "node:readline";
import { asRoot, rootOutput } from "./inside.ts";

export const RING3: string = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;

/** Words for {@link startService}: what packages/cli/systemd/ring3d.service leaves root, one capability, and no way to more. */
export const CONFINED =
  "ulimit -l unlimited; /util-linux/setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+chown";

/** A service that runs as root. Disposal kills it, so that a test that fails leaves none behind. */
export interface RunningService extends AsyncDisposable {
  readonly pid: number;
  /** Sends a signal, and resolves once the process has ended. */
  end(signal: "TERM" | "KILL"): Promise<void>;
  /** The next line of its log that matches, among those that nobody has waited for. Throws with them where none comes for minutes. */
  says(pattern: RegExp): Promise<string>;
}

/**
 * Starts ring3d with the `configuration` in the folder `place`, and resolves once it says that it is ready. `setting` are the
 * shell's words in front of it: variables, limits, a program that confines it.
 */
export async function startService(place: string, configuration: string, setting = ""): Promise<RunningService> {
  await rootOutput(`mkdir -p ${place}; touch ${place}/log; cat > ${place}/ring3d.yaml <<'END'\n${configuration}END`);
  const log = follow(`${place}/log`);
  const script = `rm -f ${place}/out; mkfifo ${place}/out
${setting} node ${RING3} daemon --config ${place}/ring3d.yaml > ${place}/out 2>> ${place}/log < /dev/null & echo $!
exec 3< ${place}/out; read line <&3; cat <&3 > /dev/null 2>&1 & test "$line" = "ring3d is ready"`;
  const { code, stdout } = await asRoot(script);
  assert.equal(code, 0, `ring3d did not start:\n${await rootOutput(`cat ${place}/log`)}`);
  const pid = Number(stdout.trim());
  let running = true;
  const end = async (signal: "TERM" | "KILL"): Promise<void> => {
    running = false;
    await rootOutput(`kill -${signal} ${pid}; ${endOf(pid)}`);
  };
  return {
    pid,
    end,
    says: (pattern) => log.line(pattern),
    [Symbol.asyncDispose]: async () => {
      log[Symbol.dispose]();
      if (running) await end("KILL");
    },
  };
}

/** Shell words that wait for the end of a process that is not the shell's. */
export function endOf(pid: number): string {
  return `timeout 120 sh -c 'while readlink /proc/${pid}/exe; do usleep 20000; done > /dev/null'`;
}

/** What is written to a file from now on. */
function follow(path: string): Disposable & { line(pattern: RegExp): Promise<string> } {
  const tail = spawn("tail", ["-c", `+${statSync(path).size + 1}`, "-F", path], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const lines: string[] = [];
  let wake = (): void => undefined;
  createInterface({ input: tail.stdout }).on("line", (line) => {
    lines.push(line);
    wake();
  });
  return {
    line: async (pattern) => {
      let late = false;
      const patience = setTimeout(() => {
        late = true;
        wake();
      }, 120_000);
      const others: string[] = [];
      for (;;) {
        const line = lines.shift();
        if (line === undefined && late) throw new Error(`${path} lacks ${String(pattern)}:\n${others.join("\n")}`);
        if (line === undefined) await new Promise<void>((resolve) => (wake = resolve));
        else if (pattern.test(line)) {
          clearTimeout(patience);
          return line;
        } else others.push(line);
      }
    },
    [Symbol.dispose]: () => void tail.kill(),
  };
}
