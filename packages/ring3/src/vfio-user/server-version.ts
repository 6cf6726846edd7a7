// VERSION: what both ends agree on. Three rules come from peers rather than the text: the reply names the lower minor
// version; it is never longer than the request, since QEMU reads no further; and it says only what was proposed and differs
// from what holds anyway.
import type { FileDescriptor } from "../linux/index.ts";
import { type Capabilities, DefaultCapability, VERSION_MAJOR, VERSION_MINOR, Version } from "./messages.ts";
import { checkPayload, refusal } from "./server-refusal.ts";

const MAXIMUM_DATA_BYTES = 4096;

/** What a client proposed, with the defaults of what it left out. */
export interface Proposal {
  readonly minor: number;
  readonly maximumFds: number;
  readonly maximumTransferBytes: number;
  readonly twinSocket: boolean;
  readonly writeMultiple: boolean;
  /** Names of the capabilities that the client proposed. */
  readonly names: ReadonlySet<string>;
  /** Without any JSON, as SPDK's client, which wants a descriptor for each area of a region. */
  readonly bare: boolean;
  readonly payloadBytes: number;
  /** Whether an error may have a sentence behind its header. */
  readonly takesRefusalText: boolean;
}

/** Reads a VERSION request. Throws `EINVAL` where it is malformed or of another major version. */
export function readProposal(payload: Uint8Array): Proposal {
  checkPayload(payload, Version.size, "VERSION");
  const { major, minor } = Version.from(payload);
  if (major !== VERSION_MAJOR) {
    throw refusal("EINVAL", `the client speaks version ${major}.${minor}, this server ${VERSION_MAJOR}.x`);
  }
  const data = payload.subarray(Version.size);
  if (data.length > MAXIMUM_DATA_BYTES) throw refusal("EINVAL", "the capabilities are too long");
  const end = data.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? data : data.subarray(0, end)).trim();
  const capabilities = text === "" ? {} : capabilitiesOf(text);
  return {
    minor,
    maximumFds: natural(capabilities, "max_msg_fds", DefaultCapability.max_msg_fds),
    maximumTransferBytes: natural(capabilities, "max_data_xfer_size", DefaultCapability.max_data_xfer_size),
    twinSocket: capabilities.twin_socket?.supported === true,
    writeMultiple: capabilities.write_multiple === true,
    names: new Set(Object.keys(capabilities)),
    bare: text === "",
    payloadBytes: payload.length,
    takesRefusalText: capabilities.refusal_text === true,
  };
}

/** What the server offers of its own accord. */
export interface Offer {
  readonly maximumFds: number;
  readonly maximumTransferBytes: number;
  /** The client's end of the second socket. */
  readonly twin: FileDescriptor | undefined;
  readonly postedWrites: boolean;
  /** Clients that have the function now, where it may be several. */
  readonly openings: number | undefined;
}

/** The reply's payload. */
export function versionReply(proposal: Proposal, offer: Offer): Uint8Array {
  const capabilities: Record<string, unknown> = {};
  const room = (): boolean => encode(proposal.minor, capabilities).length <= proposal.payloadBytes;
  // The second socket goes first, and may make the reply longer: whoever proposes it reads all of a reply.
  if (offer.twin !== undefined) capabilities["twin_socket"] = { supported: true, fd_index: 0 };
  const add = (name: keyof Capabilities, value: unknown, otherwise: unknown): void => {
    if (!proposal.names.has(name) || value === otherwise) return;
    capabilities[name] = value;
    if (!room()) delete capabilities[name];
  };
  add("max_data_xfer_size", offer.maximumTransferBytes, DefaultCapability.max_data_xfer_size);
  add("max_msg_fds", offer.maximumFds, DefaultCapability.max_msg_fds);
  add("write_multiple", proposal.writeMultiple, false);
  add("posted_writes", offer.postedWrites, true);
  add("openings", offer.openings, undefined);
  return encode(proposal.minor, capabilities);
}

function encode(minor: number, capabilities: Readonly<Record<string, unknown>>): Uint8Array {
  const head = Version.bytes({ major: VERSION_MAJOR, minor: Math.min(minor, VERSION_MINOR) });
  if (Object.keys(capabilities).length === 0) return head;
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const payload = new Uint8Array(head.length + text.length);
  payload.set(head);
  payload.set(text, head.length);
  return payload;
}

function capabilitiesOf(text: string): Capabilities {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refusal("EINVAL", "the capabilities are no JSON");
  }
  if (!isRecord(value)) throw refusal("EINVAL", "the version data is no JSON object");
  const { capabilities = {} } = value;
  if (!isRecord(capabilities)) throw refusal("EINVAL", "the capabilities are no JSON object");
  const twin = capabilities["twin_socket"];
  if (twin !== undefined && !isRecord(twin)) throw refusal("EINVAL", "twin_socket is no JSON object");
  return capabilities;
}

function natural(capabilities: Capabilities, name: "max_msg_fds" | "max_data_xfer_size", otherwise: number): number {
  const value: unknown = capabilities[name];
  if (value === undefined) return otherwise;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= (name === "max_msg_fds" ? 0 : 1)) {
    return value;
  }
  throw refusal(
    "EINVAL",
    `${name} is ${JSON.stringify(value)}, which is no number of ${name === "max_msg_fds" ? "descriptors" : "bytes"}`,
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
