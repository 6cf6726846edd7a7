// Waiting for a function's events in tests.
import type { FunctionEventName, PciFunction } from "../../packages/ring3/src/pci/function.ts";

/** The next event of a type. */
export function next(fn: PciFunction, type: FunctionEventName): Promise<unknown> {
  return new Promise((resolve) => {
    const listening = fn.events.on(type, (event) => {
      listening[Symbol.dispose]();
      resolve(event);
    });
  });
}

/** Keeps the process alive while it waits: nothing that watches for trouble does. */
export async function patiently<T>(wait: Promise<T>): Promise<T> {
  const alive = setInterval(() => undefined, 1000);
  try {
    return await wait;
  } finally {
    clearInterval(alive);
  }
}
