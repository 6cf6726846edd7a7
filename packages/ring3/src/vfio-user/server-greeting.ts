// The first message of a client, and the answer that opens its session: what both sides can, and a second socket for the
// server's own commands where the client wants one.
import { isRing3Error, type Ring3Error } from "../binary/error.ts";
import { UnixSocket, watch } from "../linux/index.ts";
import { Connection, type Message } from "./connection.ts";
import { closeAll } from "./framing.ts";
import { Command, commandName } from "./messages.ts";
import type { ServeOptions } from "./server-options.ts";
import type { Occupancy } from "./server-occupancy.ts";
import { refusal } from "./server-refusal.ts";
import type { Replies, Request } from "./server-replies.ts";
import { type Proposal, readProposal, versionReply } from "./server-version.ts";

/** A client's hello, while it waits for the function. */
export interface Hello {
  readonly request: Request;
  readonly proposal: Proposal;
}

/** Descriptors that the server takes with one message. */
export const MAXIMUM_FDS = 16;
const MAXIMUM_TEXT_BYTES = 1024;

/** What a client proposes. Throws what it is refused with. */
export function readHello({ command, payload, fds }: Message): Proposal {
  closeAll(fds);
  if (command !== Command.VERSION) throw refusal("EINVAL", `${commandName(command)} came before VERSION`);
  return readProposal(payload);
}

/** The sentence of `error`, for a client that takes one. */
export function refusalText(error: unknown, proposal: Proposal | undefined): Uint8Array | undefined {
  return isRing3Error(error) && proposal?.takesRefusalText === true ? sentenceOf(error) : undefined;
}

/** Answers the hello of a client that has the function. Gives the connection for the server's own commands, if there is one. */
export function welcome(
  { request, proposal }: Hello,
  replies: Replies,
  options: ServeOptions,
  occupancy: Occupancy,
  maximumTransferBytes: number,
): Connection | undefined {
  const pair = proposal.twinSocket && options.twinSocket !== false ? UnixSocket.pair() : undefined;
  using theirs = pair?.[1];
  using made = new DisposableStack();
  const twin = pair === undefined ? undefined : made.use(twinConnection(pair[0], maximumTransferBytes));
  const payload = versionReply(proposal, {
    maximumFds: MAXIMUM_FDS,
    maximumTransferBytes,
    twin: theirs?.fd,
    postedWrites: options.postedWrites !== false,
    openings: occupancy.shared ? occupancy.count : undefined,
  });
  replies.welcome(request, payload, theirs === undefined ? [] : [theirs.fd]);
  made.move();
  return twin;
}

function twinConnection(socket: UnixSocket, maximumTransferBytes: number): Connection {
  using own = new DisposableStack();
  own.use(socket);
  const twin = new Connection(socket.fd, { maximumTransferBytes, maximumFds: 1 });
  own.move();
  // What lies there unread could be the client's own end of the first one, which would never look closed.
  watch(twin.channel.fd, () => twin[Symbol.dispose](), { readable: false });
  return twin;
}

/** What an error says, for the other side. */
function sentenceOf(error: Ring3Error): Uint8Array {
  return new TextEncoder().encode(error.message.slice(error.code.length + 2)).subarray(0, MAXIMUM_TEXT_BYTES);
}
