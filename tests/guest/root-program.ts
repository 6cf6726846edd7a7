// A program of the suite's packages that runs as root beside a test, and what it says.
import { setTimeout as delay } from "node:timers/promises";
import { asRoot, packageProgram, rootOutput } from "./inside.ts";

let started = 0;

export interface RootProgram extends AsyncDisposable {
  /** Everything it has said so far. */
  output(): Promise<string>;
  /** Waits until what it said matches; throws with all of it where it ended instead. */
  says(pattern: RegExp): Promise<RegExpExecArray>;
  /** Writes a line to its standard input. */
  tell(line: string): Promise<void>;
  /** Waits until it has ended; returns what it said. */
  ended(): Promise<string>;
}

/** Starts `path` of the packages `name`; disposal kills it. */
export async function startRootProgram(name: string, path: string, words: readonly string[]): Promise<RootProgram> {
  const log = `/tmp/root-program-${process.pid}-${started++}`;
  const input = `${log}.input`;
  // Open for both ways its input never ends.
  const command = `${packageProgram(name, path)} ${words.join(" ")} <> ${input} > ${log} 2>&1 & echo $!`;
  const pid = Number((await rootOutput(`mkfifo ${input}; ${command}`)).trim());
  const output = (): Promise<string> => rootOutput(`cat ${log}`);
  const look = async (): Promise<{ readonly lives: boolean; readonly text: string }> => {
    const { code, stdout } = await asRoot(`kill -0 ${pid} 2> /dev/null; lives=$?; cat ${log}; exit $lives`);
    return { lives: code === 0, text: stdout };
  };
  const ended = (): Promise<string> => rootOutput(`while kill -0 ${pid}; do sleep 0.05; done; cat ${log}`);
  return {
    output,
    ended,
    tell: async (line) => {
      await asRoot(`cat > ${input}`, `${line}\n`);
    },
    async says(pattern) {
      for (;;) {
        const { lives, text } = await look();
        const match = pattern.exec(text);
        if (match !== null) return match;
        if (!lives) throw new Error(`${path} ended without saying ${pattern}:\n${text}`);
        await delay(50);
      }
    },
    async [Symbol.asyncDispose]() {
      await asRoot(`kill -KILL ${pid}`);
      await ended();
      await asRoot(`rm -f ${log} ${input}`);
    },
  };
}
