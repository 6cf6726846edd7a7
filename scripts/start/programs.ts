// Starting programs of this project as another user, with their output shown line by line.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Checkout } from "./checkout.ts";
import { byLine } from "./say.ts";

/** How a program is run. */
export interface Launch {
  readonly checkout: Checkout;
  /** Of another user, where this process is root. */
  readonly uid: number | undefined;
  /** Gets each line of its output. */
  readonly show: (line: string) => void;
}

/** A program that goes on until it is stopped. */
export interface Running extends AsyncDisposable {
  /** Once it has written something to stdout: servers do when they are ready. */
  readonly saidSomething: Promise<void>;
  /** Ends it by a signal and checks that it ended well. */
  stop(): Promise<void>;
}

/** Starts `ring3 WORDS`. */
export function start(words: readonly string[], launch: Launch): Running {
  const child = spawnProgram([launch.checkout.command, ...words], launch);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  child.stdout?.once("data", () => resolve());
  child.once("exit", (code, signal) => reject(new Error(`ring3 ${words.join(" ")} ended with ${signal ?? code}`)));
  promise.catch(() => undefined);
  const end = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  };
  return {
    saidSomething: promise,
    stop: async () => {
      await end();
      if (child.exitCode !== 0) throw new Error(`ring3 serve ended with ${child.signalCode ?? child.exitCode}`);
    },
    [Symbol.asyncDispose]: end,
  };
}

/** Runs a TypeScript program to its end; throws where it fails. */
export async function run(words: readonly string[], launch: Launch): Promise<void> {
  const child = spawnProgram(words, launch);
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  if (code !== 0) throw new Error(`${words.join(" ")} ended with ${signal ?? code}`);
}

function spawnProgram(words: readonly string[], { checkout, uid, show }: Launch): ChildProcess {
  const child = spawn(checkout.node, [...words], {
    ...(uid === undefined ? {} : { uid, gid: uid }),
    cwd: "/",
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], NO_COLOR: "1" },
  });
  const killAtExit = (): void => void child.kill("SIGKILL");
  process.once("exit", killAtExit);
  child.once("exit", () => process.off("exit", killAtExit));
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", byLine(show));
  return child;
}
