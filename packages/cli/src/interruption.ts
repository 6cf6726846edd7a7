// Ctrl-C and its relatives: the first one aborts, so that functions are closed in order; a second one ends at once.

/** Why the command stops before its end. */
export class Interruption extends Error {
  override readonly name = "Interruption";
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

const SIGNALS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

/**
 * A service reads its configuration again at SIGHUP instead of ending, until disposed. The signal's listeners are the process's:
 * a published command has its own copy of this module.
 */
export function takeHangup(listener: () => void): Disposable {
  const others = process.listeners("SIGHUP");
  process.removeAllListeners("SIGHUP");
  process.on("SIGHUP", listener);
  return {
    [Symbol.dispose]: () => {
      process.off("SIGHUP", listener);
      for (const other of others) process.on("SIGHUP", other);
    },
  };
}

/** Resolves once `signal` has aborted. */
export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
}

/** A signal for {@link AbortSignal} users that follows the process's signals and the end of stdout's reader. */
export function processAbortSignal(): AbortSignal {
  const controller = new AbortController();
  for (const [name, number] of Object.entries(SIGNALS)) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(128 + number);
      controller.abort(new Interruption(`stopped by ${name}`, 128 + number));
    });
  }
  // Whoever read our output has seen enough (`ring3 ls | head`): no failure, but no reason to go on either.
  const ended = (error: NodeJS.ErrnoException): void => {
    if (error.code === "EPIPE") controller.abort(new Interruption("the reader of the output has gone", 0));
    else throw error;
  };
  process.stdout.on("error", ended);
  process.stderr.on("error", ended);
  return controller.signal;
}
