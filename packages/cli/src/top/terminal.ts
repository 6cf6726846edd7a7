// A terminal taken over for a screen, and given back however the program ends: by a key, a signal, an exception or
// process.exit. Each frame is one write that overwrites the one before, so nothing flickers.
import type { Readable, Writable } from "node:stream";

const ESCAPE = "\u001b";
const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
/** Terminals that know it show the frame when it is whole; others ignore it. */
const [BEGIN, END] = ["\u001b[?2026h\u001b[H", "\u001b[J\u001b[?2026l"];

type Input = Readable & { readonly isTTY?: boolean; setRawMode?(raw: boolean): unknown };
type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };

/** Keys by name: `q`, `up`, `down`, `ctrl-c`, `ctrl-z`, ...; others as they came. */
const NAMES: Readonly<Record<string, string>> = {
  "\u0003": "ctrl-c",
  "\u001a": "ctrl-z",
  "\u001b[A": "up",
  "\u001b[B": "down",
  "\u001b[5~": "page-up",
  "\u001b[6~": "page-down",
  "\u001bOA": "up",
  "\u001bOB": "down",
};

export class ScreenTerminal implements Disposable {
  readonly #input: Input;
  readonly #output: Output;
  readonly #onKey: (key: string) => void;
  readonly #onResize: () => void;
  readonly #leave = (): void => this.#giveBack();
  readonly #data = (data: Buffer | string): void => this.#keys(String(data));
  #taken = false;

  constructor(input: Input, output: Output, onKey: (key: string) => void, onResize: () => void) {
    this.#input = input;
    this.#output = output;
    this.#onKey = onKey;
    this.#onResize = onResize;
    // Also where process.exit ends it all, as at a second Ctrl-C.
    process.on("exit", this.#leave);
    output.on("resize", onResize);
    input.on("data", this.#data);
    this.#take();
  }

  get width(): number {
    return this.#output.columns ?? 80;
  }

  get height(): number {
    return this.#output.rows ?? 24;
  }

  draw(lines: readonly string[]): void {
    if (this.#taken) this.#output.write(`${BEGIN}${lines.map((line) => `${line}\u001b[K`).join("\r\n")}${END}`);
  }

  /** Stops the process as Ctrl-Z does elsewhere; the screen comes back when it goes on. */
  suspend(stop: () => void = () => process.kill(process.pid, "SIGTSTP")): void {
    this.#giveBack();
    process.once("SIGCONT", () => {
      this.#take();
      this.#onResize();
    });
    stop();
  }

  [Symbol.dispose](): void {
    this.#giveBack();
    process.off("exit", this.#leave);
    this.#output.off("resize", this.#onResize);
    this.#input.off("data", this.#data);
    this.#input.pause();
  }

  #take(): void {
    this.#input.setRawMode?.(true);
    this.#input.resume();
    this.#output.write(ENTER);
    this.#taken = true;
  }

  #giveBack(): void {
    if (!this.#taken) return;
    this.#taken = false;
    this.#input.setRawMode?.(false);
    this.#output.write(LEAVE);
  }

  #keys(text: string): void {
    for (let at = 0; at < text.length; ) {
      const sequence =
        text[at] === ESCAPE ? /^(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])/.exec(text.slice(at + 1))?.[0] : undefined;
      const key = sequence === undefined ? (text[at] ?? "") : `${ESCAPE}${sequence}`;
      at += key.length;
      this.#onKey(NAMES[key] ?? key);
    }
  }
}
