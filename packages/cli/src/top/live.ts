// The live screen of `ring3 top`: samples at its interval, keys in between. A signal ends it like q does.
import type { TopView } from "../commands/top.ts";
import type { Context } from "../context.ts";
import { frameLines, lastStart, tableLines } from "./frame.ts";
import { type FunctionRate, ORDERS, ratesOf, sorted } from "./rates.ts";
import { ScreenTerminal } from "./terminal.ts";

export async function runLive(view: TopView, { streams, style, signal }: Context): Promise<void> {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  let { order, vectors } = view;
  let paused = false;
  let from = 0;
  let before = view.sample();
  let taken = performance.now();
  let rates: FunctionRate[] = ratesOf(before, before, 0);

  const draw = (): void => {
    const { width, height } = terminal;
    from = Math.min(from, lastStart(tableLines(rates, vectors, style).length - 1, height));
    const options = { width, height, order, paused, vectors, from, time: new Date() };
    terminal.draw(frameLines(sorted(rates, order), options, style));
  };
  const sample = (): void => {
    if (paused) return;
    const now = view.sample();
    const time = performance.now();
    rates = ratesOf(before, now, time - taken);
    [before, taken] = [now, time];
    draw();
  };
  const actions: Readonly<Record<string, () => void>> = {
    q: end,
    "ctrl-c": end,
    "ctrl-z": () => terminal.suspend(),
    s: () => (order = ORDERS[(ORDERS.indexOf(order) + 1) % ORDERS.length] ?? "rate"),
    p: () => (paused = !paused),
    " ": () => (paused = !paused),
    v: () => (vectors = !vectors),
    up: () => (from = Math.max(0, from - 1)),
    down: () => from++,
    "page-up": () => (from = Math.max(0, from - terminal.height)),
    "page-down": () => (from += terminal.height),
  };
  const onKey = (key: string): void => {
    const action = Object.hasOwn(actions, key) ? actions[key] : undefined;
    if (action === undefined) return;
    action();
    if (key !== "ctrl-z") draw();
  };
  using terminal = new ScreenTerminal(streams.stdin, streams.stdout, onKey, draw);
  signal.addEventListener("abort", () => end(), { once: true });
  if (signal.aborted) end();
  draw();
  const timer = setInterval(sample, view.intervalMs);
  try {
    await ended;
  } finally {
    clearInterval(timer);
  }
}
