// What the doctor says: one finding per check, each with its evidence, and for what is wrong the consequence and the
// command that mends it. The ids are stable: scripts and other people's documentation name them.

/**
 * `fine`; `note`: works, but worth knowing; `warning`: works with a restriction or a risk; `failure`: a driver in user space
 * cannot work; `unseen`: this user could not look.
 */
export type Severity = "fine" | "note" | "warning" | "failure" | "unseen";

/** What was looked at, and what it said. */
export interface Evidence {
  /** A file, a command or a call. */
  readonly source: string;
  readonly text: string;
}

/** A way to mend a finding. */
export interface Remedy {
  /** When to take this way, or what it costs. */
  readonly text: string;
  /** A shell command that does it; `undefined` where only hands or the firmware's setup can. */
  readonly command: string | undefined;
  /** Whether the machine has to boot before it helps. */
  readonly needsReboot: boolean;
}

export interface Finding {
  /** Stable, such as `group-viable`. */
  readonly id: string;
  readonly severity: Severity;
  /** The function that it is about; `undefined` for the machine. */
  readonly address: string | undefined;
  /** One line. */
  readonly summary: string;
  readonly evidence: readonly Evidence[];
  /** What it means for a driver; `undefined` for what is fine. */
  readonly consequence: string | undefined;
  /** Best first; empty where nothing needs mending, or nothing can be. */
  readonly remedies: readonly Remedy[];
}

type Details = Partial<Pick<Finding, "consequence" | "remedies">>;

/** Makes the findings of one subject: the machine, or the function at `address`. */
export class Findings {
  readonly found: Finding[] = [];
  readonly #address: string | undefined;

  constructor(address?: string) {
    this.#address = address;
  }

  fine(id: string, summary: string, ...evidence: readonly Evidence[]): void {
    this.#add("fine", id, summary, evidence, {});
  }

  note(id: string, summary: string, evidence: readonly Evidence[], details: Details = {}): void {
    this.#add("note", id, summary, evidence, details);
  }

  warning(id: string, summary: string, evidence: readonly Evidence[], details: Required<Details>): void {
    this.#add("warning", id, summary, evidence, details);
  }

  failure(id: string, summary: string, evidence: readonly Evidence[], details: Required<Details>): void {
    this.#add("failure", id, summary, evidence, details);
  }

  unseen(id: string, summary: string, evidence: readonly Evidence[], details: Details = {}): void {
    this.#add("unseen", id, summary, evidence, details);
  }

  #add(severity: Severity, id: string, summary: string, evidence: readonly Evidence[], details: Details): void {
    const { consequence, remedies = [] } = details;
    this.found.push({ id, severity, address: this.#address, summary, evidence, consequence, remedies });
  }
}

export function run(command: string, text: string): Remedy {
  return { text, command, needsReboot: false };
}

export function byHand(text: string, needsReboot = false): Remedy {
  return { text, command: undefined, needsReboot };
}
