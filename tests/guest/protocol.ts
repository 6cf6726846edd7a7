// What host and agent say to each other: JSON lines over the guest's second serial port, and tests with the agent.
// The hard part is that the guest's tty drops input beyond 64 KiB that nobody has read, and has no flow control: the
// host sends a long line in pieces and waits for an acknowledgement after each.

/** A program to be run in the guest. */
export interface RunRequest {
  readonly argv: readonly string[];
  readonly uid: number;
  readonly gid: number;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
}

export type ToGuest =
  | ({ readonly op: "run"; readonly id: number } & RunRequest)
  | { readonly op: "kill"; readonly id: number; readonly signal: string }
  | { readonly op: "bind"; readonly id: number }
  | { readonly op: "answer"; readonly id: number; readonly value?: unknown; readonly error?: string };

export type ToHost =
  | { readonly op: "hello"; readonly release: string; readonly uptimeMs: number }
  | { readonly op: "more" }
  | { readonly op: "output"; readonly id: number; readonly stream: "stdout" | "stderr"; readonly text: string }
  | { readonly op: "exit"; readonly id: number; readonly code: number | null; readonly signal: string | null }
  | { readonly op: "failed"; readonly id: number; readonly message: string }
  | { readonly op: "bound"; readonly id: number; readonly problems: readonly string[] }
  | { readonly op: "ask"; readonly id: number; readonly what: HostRequest };

/** What a test in the guest may ask of the host. */
export type HostRequest =
  | { readonly kind: "qmp"; readonly command: string; readonly args: Readonly<Record<string, unknown>> }
  | { readonly kind: "trace-start"; readonly events: readonly string[] }
  /** `filter` keeps the lines that contain it. */
  | { readonly kind: "trace-stop"; readonly filter: string };

/** What a test in the guest asks of the agent, one request for each connection to SOCKET. */
export type InsideRequest =
  | { readonly kind: "root"; readonly command: string; readonly input: string }
  | { readonly kind: "bind"; readonly address: string; readonly driver: string; readonly uid: number }
  | { readonly kind: "standard" }
  | { readonly kind: "await"; readonly address: string; readonly present: boolean }
  | HostRequest;

/** Where tests in the guest reach the agent. */
export const SOCKET = "/run/rig.sock";

/** The longest piece of a line to the guest, far below the tty's 64 KiB. */
const PIECE = 16 * 1024;
const CONTINUED = "+";
const FINAL = ".";

/** Splits a message into the lines that go out one by one, each but the last answered with `more`. */
export function pieces(message: ToGuest): string[] {
  const text = JSON.stringify(message).replaceAll(/[\u0080-\uffff]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
  const lines: string[] = [];
  for (let at = 0; at < text.length; at += PIECE) {
    const last = at + PIECE >= text.length;
    lines.push(`${last ? FINAL : CONTINUED}${text.slice(at, at + PIECE)}\n`);
  }
  return lines;
}

/** Puts the pieces together again; `more` is called for each that is not the last. */
export class PieceReader {
  #text = "";

  read(line: string, more: () => void): ToGuest | undefined {
    this.#text += line.slice(1);
    if (line.startsWith(CONTINUED)) {
      more();
      return undefined;
    }
    const text = this.#text;
    this.#text = "";
    return JSON.parse(text) as ToGuest;
  }
}

/** Cuts a stream of text into lines. */
export class LineReader {
  #rest = "";

  push(text: string, onLine: (line: string) => void): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") onLine(line);
  }
}
