// Shows every message to whoever asked for it.
import type { Message } from "./connection.ts";
import { commandName, HeaderFlag } from "./messages.ts";
import type { TracedMessage } from "./server-options.ts";

export class MessageTrace {
  readonly #show: (message: TracedMessage) => void;

  constructor(show: (message: TracedMessage) => void) {
    this.#show = show;
  }

  received({ command, id, bytes, fds, flags, error }: Message): void {
    this.#show({
      direction: "received",
      command: commandName(command),
      kind: (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY ? "reply" : "command",
      messageId: id,
      size: bytes.length,
      fds: fds.length,
      errno: (flags & HeaderFlag.ERROR) === 0 ? 0 : error,
    });
  }

  sent(command: number, kind: "command" | "reply", messageId: number, size: number, fds = 0, errno = 0): void {
    this.#show({ direction: "sent", command: commandName(command), kind, messageId, size, fds, errno });
  }
}
