// A later turn of the event loop, wherever the code runs: Node's immediate, a message in a browser, a timer at last.

interface Scheduling {
  readonly setImmediate?: (act: () => void) => unknown;
  readonly MessageChannel?: new () => {
    readonly port1: {
      addEventListener(type: "message", act: () => void, options: { readonly once: boolean }): void;
      start(): void;
      close(): void;
    };
    readonly port2: { postMessage(message: unknown): void };
  };
}

/** Calls `act` in a later turn of the event loop; the process stays alive until then. */
export function inLaterTurn(act: () => void): void {
  const scheduling = globalThis as unknown as Scheduling;
  if (scheduling.setImmediate !== undefined) {
    scheduling.setImmediate(act);
  } else if (scheduling.MessageChannel !== undefined) {
    const { port1, port2 } = new scheduling.MessageChannel();
    const turn = (): void => {
      port1.close();
      act();
    };
    port1.addEventListener("message", turn, { once: true });
    port1.start();
    port2.postMessage(undefined);
  } else setTimeout(act, 0);
}

/** Whether a timer keeps the process alive, where such a thing exists. */
export function keepAlive(timer: ReturnType<typeof setTimeout>, on: boolean): void {
  const node = timer as unknown as { ref?: () => void; unref?: () => void };
  if (on) node.ref?.();
  else node.unref?.();
}
