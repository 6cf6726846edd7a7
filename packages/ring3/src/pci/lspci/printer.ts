// Where the decoders write to: the text so far, how much is asked for, and the function that is shown.
import type { Register } from "../register.ts";
import type { FetchedConfig } from "./fetched-config.ts";
import type { LspciFunction } from "./function.ts";
import type { Layout } from "./layout.ts";
import type { IdNames } from "./names.ts";

export interface PrinterOptions {
  /** 0 to 3: how many `-v`. */
  readonly verbose: number;
  readonly names: IdNames;
  readonly busCentric?: boolean;
}

export class Printer {
  text = "";
  readonly shown: LspciFunction;
  readonly config: FetchedConfig;
  readonly verbose: number;
  readonly names: IdNames;
  readonly busCentric: boolean;

  constructor(shown: LspciFunction, { verbose, names, busCentric = false }: PrinterOptions) {
    this.shown = shown;
    this.config = shown.config;
    this.verbose = verbose;
    this.names = names;
    this.busCentric = busCentric;
  }

  /** Whether registers are shown, and not only names. */
  get detailed(): boolean {
    return this.verbose >= 2;
  }

  print(text: string): void {
    this.text += text;
  }

  /** The lines of registers of the group that lies at `base`. */
  show(base: number, ...layouts: readonly Layout[]): void {
    for (const layout of layouts) this.text += layout.render(this.raw(base, layout.register));
  }

  raw(base: number, { offset, width }: Pick<Register, "offset" | "width">): number {
    const at = base + offset;
    return width === 4 ? this.config.long(at) : width === 2 ? this.config.word(at) : this.config.byte(at);
  }

  /** Fetches from the first to the last of these registers. */
  fetch(base: number, first: Register, last: Register = first): boolean {
    return this.config.fetch(base + first.offset, last.offset + last.width - first.offset);
  }
}
