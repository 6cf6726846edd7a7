// Messages of D-Bus (D-Bus Specification 0.43, "Message Format").
import { DbusFormatError, DbusReader, type DbusValue, DbusWriter } from "./values.ts";

const TYPES = ["call", "return", "error", "signal"] as const;
type DbusMessageType = (typeof TYPES)[number];

/** Header fields by their codes, with their types. */
const FIELDS = {
  path: { code: 1, type: "o" },
  interface: { code: 2, type: "s" },
  member: { code: 3, type: "s" },
  errorName: { code: 4, type: "s" },
  replySerial: { code: 5, type: "u" },
  destination: { code: 6, type: "s" },
  sender: { code: 7, type: "s" },
  signature: { code: 8, type: "g" },
  unixFds: { code: 9, type: "u" },
} as const;

interface DbusHeader {
  readonly path?: string;
  readonly interface?: string;
  readonly member?: string;
  readonly errorName?: string;
  readonly replySerial?: number;
  readonly destination?: string;
  readonly sender?: string;
  /** Types of the body's values, a letter each. */
  readonly signature?: string;
  /** Descriptors that come with it. */
  readonly unixFds?: number;
}

export interface DbusMessage extends DbusHeader {
  readonly type: DbusMessageType;
  readonly serial: number;
  /** Empty where the signature has types that are not known here. */
  readonly body: readonly DbusValue[];
}

const FIXED_BYTES = 16;
/** The bus allows 128 MiB; nothing that is asked for here is a fraction of this. */
const MAXIMUM_BYTES = 262_144;

export function encodeMessage(message: DbusMessage): Uint8Array {
  const body = new DbusWriter();
  for (const [index, value] of message.body.entries()) body.put(message.signature?.[index] ?? "", value);
  const writer = new DbusWriter();
  for (const byte of ["l".charCodeAt(0), TYPES.indexOf(message.type) + 1, 0, 1]) writer.put("y", byte);
  writer.put("u", body.length);
  writer.put("u", message.serial);
  const lengthAt = writer.length;
  writer.put("u", 0);
  for (const [name, { code, type }] of Object.entries(FIELDS)) {
    const value = message[name as keyof DbusHeader];
    if (value === undefined) continue;
    writer.align(8);
    writer.put("y", code);
    writer.put("g", type);
    writer.put(type, value);
  }
  writer.patch(lengthAt, writer.length - FIXED_BYTES);
  writer.align(8);
  const bytes = new Uint8Array(writer.length + body.length);
  bytes.set(writer.bytes);
  bytes.set(body.bytes, writer.length);
  return bytes;
}

/** Bytes of the message that begins `bytes`; `undefined` where too few have come to tell. Throws {@link DbusFormatError}. */
export function messageSize(bytes: Uint8Array): number | undefined {
  if (bytes.length < FIXED_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const littleEndian = isLittleEndian(bytes);
  const fields = view.getUint32(12, littleEndian);
  const size = Math.ceil((FIXED_BYTES + fields) / 8) * 8 + view.getUint32(4, littleEndian);
  if (size > MAXIMUM_BYTES) throw new DbusFormatError(`a message of ${size} bytes is not taken here`);
  return size;
}

/** Reads one whole message. Throws {@link DbusFormatError}. */
export function decodeMessage(bytes: Uint8Array): DbusMessage {
  const reader = new DbusReader(bytes, isLittleEndian(bytes));
  const [, kind, , version] = [reader.get("y"), reader.get("y"), reader.get("y"), reader.get("y")];
  const type = TYPES[Number(kind) - 1];
  if (version !== 1 || type === undefined) throw new DbusFormatError("no message of version 1 of D-Bus");
  reader.get("u");
  const serial = Number(reader.get("u"));
  const end = Number(reader.get("u")) + FIXED_BYTES;
  const header: Record<string, DbusValue> = {};
  const fields = Object.entries(FIELDS);
  while (reader.at < end) {
    reader.align(8);
    const code = reader.get("y");
    const value = reader.get("v");
    const [name, field] = fields.find(([, known]) => known.code === code) ?? [];
    // Fields that come with later versions are to be left alone.
    if (name === undefined || field === undefined) continue;
    if (typeof value !== (field.type === "u" ? "number" : "string")) {
      throw new DbusFormatError(`the header field ${name} has the wrong type`);
    }
    header[name] = value;
  }
  reader.align(8);
  const signature = String(header["signature"] ?? "");
  const known = /^[ybutsoghv]*$/.test(signature);
  const body = known ? Array.from(signature, (letter) => reader.get(letter)) : [];
  return { ...(header as DbusHeader), type, serial, body };
}

function isLittleEndian(bytes: Uint8Array): boolean {
  if (bytes[0] === 0x6c) return true;
  if (bytes[0] === 0x42) return false;
  throw new DbusFormatError("no message of D-Bus");
}
