// A trace as a capture file that Wireshark opens: pcapng with one block per event, of the link type DLT_USER0, which the
// dissector docs/ring3.lua takes apart. IETF draft-ietf-opsawg-pcapng, sections 4.1 to 4.3; the record is ours, version 1:
// docs/trace-format.md. Names of registers and fields are in the records, so that the dissector needs no register map.
import { type AccessEvent, isAccess, type TraceEvent, type TraceEventType, type TraceSink } from "./event.ts";
import type { TraceHeader } from "./json-lines.ts";
import { eventText } from "./text.ts";

const LINKTYPE_USER0 = 147;
const RECORD_VERSION = 1;
const FIXED_BYTES = 40;

const types: readonly TraceEventType[] = [
  "open",
  "config",
  "bar",
  "rom",
  "interrupts",
  "interrupt",
  "map",
  "unmap",
  "memory",
  "reset",
  "power",
  "event",
  "fault",
  "close",
];
const kinds = ["intx", "msi", "msix"] as const;
/** What follows the fixed part: a tag, and as many bytes as are said. */
const Tag = { USER: 1, REGISTER: 2, FIELD: 3, DATA: 4, ERROR: 5, TEXT: 6 } as const;

const text = new TextEncoder();

/** A sink that gives a capture to `write`, block by block. Times count from when the trace began. */
export class PcapngSink implements TraceSink {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #startNs: bigint;

  constructor({ started }: TraceHeader, write: (bytes: Uint8Array) => void) {
    this.#write = write;
    this.#startNs = BigInt(Date.parse(started)) * 1_000_000n;
    write(sectionHeader());
    write(interfaceDescription());
  }

  write(event: TraceEvent): void {
    this.#write(packet(this.#startNs + BigInt(event.t), record(event)));
  }
}

// --- Blocks --------------------------------------------------------------------------------------------------------------

function block(type: number, body: Uint8Array): Uint8Array {
  const padded = Math.ceil(body.length / 4) * 4;
  const bytes = new Uint8Array(12 + padded);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, bytes.length, true);
  bytes.set(body, 8);
  view.setUint32(8 + padded, bytes.length, true);
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + Math.ceil(value.length / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, 4);
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const END = new Uint8Array(4);

function sectionHeader(): Uint8Array {
  const fixed = new Uint8Array(16);
  const view = new DataView(fixed.buffer);
  view.setUint32(0, 0x1a2b3c4d, true);
  view.setUint16(4, 1, true);
  // The section's length is not known.
  view.setBigUint64(8, 0xffff_ffff_ffff_ffffn, true);
  return block(0x0a0d0d0a, join(fixed, option(4, text.encode("ring3")), END));
}

function interfaceDescription(): Uint8Array {
  const fixed = new Uint8Array(8);
  new DataView(fixed.buffer).setUint16(0, LINKTYPE_USER0, true);
  // Times are in units of 10^-9 s.
  return block(1, join(fixed, option(2, text.encode("ring3")), option(9, Uint8Array.of(9)), END));
}

function packet(timeNs: bigint, data: Uint8Array): Uint8Array {
  const fixed = new Uint8Array(20);
  const view = new DataView(fixed.buffer);
  view.setUint32(4, Number(timeNs >> 32n), true);
  view.setUint32(8, Number(timeNs & 0xffff_ffffn), true);
  view.setUint32(12, data.length, true);
  view.setUint32(16, data.length, true);
  return block(6, join(fixed, data));
}

// --- Records -------------------------------------------------------------------------------------------------------------

/** The fixed part of a record; members that an event does not have are 0. */
interface Fixed {
  readonly op?: number;
  /** BAR, or kind of interrupt. */
  readonly which?: number;
  readonly offset?: number;
  readonly count?: number;
  readonly map?: number;
  readonly value?: number | bigint;
  readonly took?: number;
}

function record(event: TraceEvent): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (tag: number, value: string | Uint8Array): void => {
    const bytes = typeof value === "string" ? text.encode(value) : value;
    const head = new Uint8Array(8);
    const view = new DataView(head.buffer);
    view.setUint16(0, tag, true);
    view.setUint32(4, bytes.length, true);
    parts.push(head, bytes);
  };
  if (event.user !== undefined) add(Tag.USER, event.user);
  if (isAccess(event)) {
    if (event.decoded !== undefined) add(Tag.REGISTER, event.decoded.register);
    for (const [name, value] of Object.entries(event.decoded?.fields ?? {}))
      add(Tag.FIELD, `${name}: 0x${value.toString(16)}`);
  }
  if ("bytes" in event && event.bytes !== undefined) add(Tag.DATA, event.bytes);
  if ("error" in event && event.error !== undefined) add(Tag.ERROR, event.error);
  add(Tag.TEXT, eventText(event, false));
  return join(fixedPart(event, fixedOf(event)), ...parts);
}

function fixedPart(
  { type, fn }: TraceEvent,
  { op = 0, which = 0, offset = 0, count = 0, map = 0, value = 0, took = 0 }: Fixed,
): Uint8Array {
  const bytes = new Uint8Array(FIXED_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, RECORD_VERSION);
  view.setUint8(1, types.indexOf(type));
  view.setUint8(2, op);
  view.setUint8(3, which);
  view.setUint32(4, fn, true);
  view.setBigUint64(8, BigInt(offset), true);
  view.setUint32(16, count, true);
  view.setUint32(20, map, true);
  view.setBigUint64(24, BigInt(value), true);
  view.setBigUint64(32, BigInt(took), true);
  return bytes;
}

function fixedOf(event: TraceEvent): Fixed {
  if (isAccess(event)) return fixedAccess(event);
  switch (event.type) {
    case "interrupts":
      return { which: kinds.indexOf(event.kind), offset: event.first, count: event.count };
    case "interrupt":
      return { which: kinds.indexOf(event.kind), offset: event.vector, count: event.count };
    case "map":
    case "unmap":
      return { offset: event.iova, count: event.size % 2 ** 32, map: event.map, value: event.size };
    case "memory":
      return { op: event.by === "driver" ? 1 : 0, offset: event.offset, count: event.bytes.length, map: event.map };
    case "reset":
    case "power":
      return { took: event.took };
    default:
      return {};
  }
}

function fixedAccess({ op, bar = 0, offset, width, bytes, value = 0, took }: AccessEvent): Fixed {
  return { op: op === "write" ? 1 : 0, which: bar, offset, count: bytes?.length ?? width, value, took };
}
