// QEMU's machine protocol (docs/interop/qmp-spec): commands answered in order of their id, and events.
import type { Socket } from "node:net";
import { LineReader } from "./protocol.ts";

/** An event, such as DEVICE_DELETED. */
export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Message {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Record<string, unknown>;
}

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class Qmp {
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #onEvent: (event: QmpEvent) => void;
  #lastId = 0;

  constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    const lines = new LineReader();
    socket.setEncoding("utf8");
    // It breaks when QEMU ends, and the end of QEMU is reported with more to go by.
    socket.on("error", () => undefined);
    socket.on("data", (text: string) => lines.push(text, (line) => this.#receive(JSON.parse(line) as Message)));
  }

  /** Runs one command and returns what QEMU returned. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** Ends every command that waits. */
  fail(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #receive(message: Message): void {
    if (message.event !== undefined) return this.#onEvent({ event: message.event, data: message.data ?? {} });
    const pending = this.#pending.get(message.id ?? 0);
    if (pending === undefined) return;
    this.#pending.delete(message.id ?? 0);
    if (message.error === undefined) pending.resolve(message.return);
    else pending.reject(new Error(`QMP ${pending.command}: ${message.error.desc}`));
  }
}
