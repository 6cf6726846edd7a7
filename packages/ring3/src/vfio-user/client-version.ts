// The first exchange of a connection: what each side can do. A reply is believed only as far as it is one of the values
// that the specification allows.
import { Ring3Error } from "../binary/error.ts";
import type { Channel } from "./client-channel.ts";
import { serverError } from "./client-channel.ts";
import { closeAll, MAXIMUM_FDS, protocolError } from "./client-lane.ts";
import { Command, DefaultCapability, HEADER_SIZE, VERSION_MAJOR, VERSION_MINOR, Version } from "./messages.ts";

/** Of what a server says about a refusal no more is shown. */
const MAXIMUM_TEXT_BYTES = 1024;

/** What holds for the connection. */
export interface Negotiated {
  /** Descriptors that the server takes in one message. */
  readonly maximumFds: number;
  /** Bytes of data in one message. */
  readonly maximumTransferBytes: number;
  readonly maximumDmaMaps: number;
  /** Page sizes of DMA mappings in bytes, ascending. */
  readonly pageSizes: readonly number[];
  readonly writeMultiple: boolean;
  /** Whether writes to BARs may go without waiting for the answer. */
  readonly postedWrites: boolean;
  /** Whether the server's commands come over a socket of their own. */
  readonly twinSocket: boolean;
  /** Clients that have the function now, this one included; 0 where there is never another one. */
  readonly openings: number;
}

/** What was proposed, and by which message. */
export interface Proposed {
  readonly id: number;
  readonly maximumTransferBytes: number;
  readonly twinSocket: boolean;
}

/** Proposes version and capabilities. */
export function propose(channel: Channel, maximumTransferBytes: number, twinSocket: boolean): Proposed {
  const capabilities = {
    max_msg_fds: MAXIMUM_FDS / 2,
    max_data_xfer_size: maximumTransferBytes,
    max_dma_maps: DefaultCapability.max_dma_maps,
    pgsizes: DefaultCapability.pgsizes,
    ...(twinSocket ? { twin_socket: { supported: true } } : {}),
    write_multiple: true,
    posted_writes: true,
    refusal_text: true,
    openings: true,
  };
  const { lane } = channel;
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  Version.encode(lane.out, HEADER_SIZE, { major: VERSION_MAJOR, minor: VERSION_MINOR });
  lane.outBytes.set(text, HEADER_SIZE + Version.size);
  const id = channel.begin(Command.VERSION, Version.size + text.length);
  return { id, maximumTransferBytes, twinSocket };
}

/** Awaits the answer and checks it. Throws `SERVER_REFUSED` or `PROTOCOL_ERROR`. */
export function agree(channel: Channel, { id, maximumTransferBytes, twinSocket }: Proposed): Negotiated {
  const size = channel.finish(id, Command.VERSION, true);
  const { lane } = channel;
  const fds = lane.takeFds();
  try {
    if (size < 0) throw refusedBy(lane.bytes.subarray(lane.payload, lane.payload + lane.payloadSize), -size);
    if (size < Version.size) throw protocolError(`a VERSION reply of ${size} bytes`);
    const { major, minor } = Version.decode(lane.view, lane.payload);
    if (major !== VERSION_MAJOR || minor > VERSION_MINOR) {
      throw new Ring3Error(
        "PROTOCOL_ERROR",
        `the vfio-user server answers version ${VERSION_MAJOR}.${VERSION_MINOR} with ${major}.${minor}; are both of the same protocol?`,
      );
    }
    const answer = parseCapabilities(lane.bytes.slice(lane.payload + Version.size, lane.payload + size));
    const twin = answer["twin_socket"];
    const wantsTwin = isRecord(twin) && twin["supported"] === true;
    if (wantsTwin) {
      const index = twin["fd_index"];
      const fd = twinSocket && typeof index === "number" ? fds[index] : undefined;
      if (fd === undefined) throw protocolError("a twin socket was announced and not sent");
      fds.splice(fds.indexOf(fd), 1);
      channel.useTwin(fd);
    }
    const pages = number(answer, "pgsizes", DefaultCapability.pgsizes, 1, Number.MAX_SAFE_INTEGER);
    channel.writeMultiple = answer["write_multiple"] === true;
    return {
      maximumFds: number(answer, "max_msg_fds", DefaultCapability.max_msg_fds, 0, 253),
      maximumTransferBytes: Math.min(
        maximumTransferBytes,
        number(answer, "max_data_xfer_size", DefaultCapability.max_data_xfer_size, 8, 2 ** 32),
      ),
      maximumDmaMaps: number(answer, "max_dma_maps", DefaultCapability.max_dma_maps, 0, 2 ** 32),
      pageSizes: Array.from({ length: 53 }, (_, bit) => 2 ** bit).filter((unit) => Math.floor(pages / unit) % 2 === 1),
      writeMultiple: channel.writeMultiple,
      postedWrites: answer["posted_writes"] !== false,
      twinSocket: wantsTwin,
      openings: number(answer, "openings", 0, 1, 2 ** 32),
    };
  } finally {
    closeAll(fds);
  }
}

/** A refusal with the server's own words, as far as they can be shown. */
function refusedBy(words: Uint8Array, errno: number): Ring3Error {
  const text = new TextDecoder()
    .decode(words.subarray(0, MAXIMUM_TEXT_BYTES))
    .replaceAll(/\p{C}+/gu, " ")
    .trim();
  return serverError(Command.VERSION, errno, "the connection", text);
}

/** The server's JSON; none at all is allowed, and so is one without the NUL at its end. */
function parseCapabilities(bytes: Uint8Array): Record<string, unknown> {
  const end = bytes.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
  if (text === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Ring3Error("PROTOCOL_ERROR", "the vfio-user server's capabilities are no JSON", { cause });
  }
  const capabilities = isRecord(value) ? value["capabilities"] : undefined;
  if (capabilities === undefined) return {};
  if (!isRecord(capabilities)) throw protocolError("capabilities that are no object");
  return capabilities;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A capability that is a number; larger ones than make sense here are as good as the largest. */
function number(from: Record<string, unknown>, name: string, absent: number, least: number, most: number): number {
  const value = from[name];
  if (value === undefined) return absent;
  if (typeof value !== "number" || !(value >= least)) {
    throw protocolError(`${name} of ${JSON.stringify(value)?.slice(0, 40)}`);
  }
  return Math.min(Math.floor(value), most);
}
