// A trace as a capture file that Wireshark opens: pcapng with one block per event, of the link type DLT_USER0, which the
// dissector docs/ring3.lua takes apart. The record is ours, version 1: docs/trace-format.md. Names of registers and fields are in the records, so that the dissector needs no register map.
import { concatenate } from "../../binary/concatenate.ts";
import { LinkType, pcapngInterface, pcapngPacketBytes, pcapngSection, putPcapngPacket } from "../../binary/pcapng.ts";
import { type AccessEvent, isAccess, TRACE_EVENT_TYPES, type TraceEvent, type TraceSink } from "./event.ts";
import type { TraceHeader } from "./json-lines.ts";
import { eventText } from "./text.ts";

const RECORD_VERSION = 1;
const FIXED_BYTES = 40;

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
    write(pcapngSection("ring3"));
    write(pcapngInterface({ linkType: LinkType.USER0, name: "ring3" }));
  }

  write(event: TraceEvent): void {
    const bytes = record(event);
    const block = new Uint8Array(pcapngPacketBytes(bytes.length));
    putPcapngPacket(block, 0, bytes, 0, bytes.length, bytes.length, this.#startNs + BigInt(event.t));
    this.#write(block);
  }
}

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
  return concatenate([fixedPart(event, fixedOf(event)), ...parts]);
}

function fixedPart(
  { type, fn }: TraceEvent,
  { op = 0, which = 0, offset = 0, count = 0, map = 0, value = 0, took = 0 }: Fixed,
): Uint8Array {
  const bytes = new Uint8Array(FIXED_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, RECORD_VERSION);
  view.setUint8(1, TRACE_EVENT_TYPES.indexOf(type));
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
