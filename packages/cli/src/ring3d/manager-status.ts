// What `systemctl status ring3d` says below the unit: how many functions are in which state, and why one has failed.
import type { FunctionStatus, Service } from "./service-interface.ts";
import { notify } from "./systemd.ts";

/** Users who come and go in a hurry must not keep the manager busy. */
const LOOK_MS = 1000;

/** Tells the manager of the service's functions whenever something has happened to them, once a second at most, until disposed. */
export function tellManager(
  service: Pick<Service, "functions" | "on">,
  environment: Record<string, string | undefined>,
): Disposable {
  let told = "";
  let timer: NodeJS.Timeout | undefined;
  const tell = (): void => {
    timer = undefined;
    const STATUS = statusText(service.functions());
    if (STATUS !== told) notify(environment, { STATUS });
    told = STATUS;
  };
  const listening = service.on(() => {
    timer ??= setTimeout(tell, LOOK_MS).unref();
  });
  return {
    [Symbol.dispose]: () => {
      listening[Symbol.dispose]();
      clearTimeout(timer);
    },
  };
}

/** `3 functions: 1 used, 1 ready, 1 failed (disk: the reset did not end)` */
export function statusText(functions: readonly FunctionStatus[]): string {
  if (functions.length === 0) return "no functions";
  const states = new Map<string, FunctionStatus[]>();
  for (const fn of functions) states.set(fn.state, [...(states.get(fn.state) ?? []), fn]);
  const parts = [...states].map(([state, those]) => {
    const reasons = those.flatMap(({ name, reason }) => (reason === undefined ? [] : [`${name}: ${reason}`]));
    return `${those.length} ${state}${reasons.length === 0 ? "" : ` (${reasons.join("; ")})`}`;
  });
  return `${functions.length} function${functions.length === 1 ? "" : "s"}: ${parts.join(", ")}`;
}
