// Events as lines of JSON and back. Lines of accesses are put together by hand, since there are many of them and each takes
// its time from the driver. A trace file is input like any other: what is read is checked line by line.
import { Ring3Error } from "../../binary/error.ts";
import {
  type AccessEvent,
  type DecodedValue,
  isAccess,
  TRACE_VERSION,
  type TraceEvent,
  type TraceSink,
} from "./event.ts";
import { readEvent } from "./read-event.ts";

/** Characters kept back before they are written. */
const BUFFER_CHARACTERS = 64 * 1024;

/** The first line of a file. */
export interface TraceHeader {
  /** Version of the format. */
  readonly trace: number;
  /** When the trace began, ISO 8601. */
  readonly started: string;
}

export interface Trace {
  readonly header: TraceHeader;
  readonly events: readonly TraceEvent[];
}

/**
 * A sink that gives lines of JSON to `write`, many at a time; {@link flush} gives what is kept back. The first line says what
 * the format is.
 *
 * @example
 * import { JsonLines } from "ring3/trace";
 * import { appendFileSync } from "node:fs";
 * const sink = new JsonLines((text) => appendFileSync("trace.jsonl", text));
 */
export class JsonLines implements TraceSink {
  readonly #write: (text: string) => void;
  #text: string;

  constructor(write: (text: string) => void, started: Date = new Date()) {
    this.#write = write;
    const header: TraceHeader = { trace: TRACE_VERSION, started: started.toISOString() };
    this.#text = `${JSON.stringify({ ring3: "trace", ...header })}\n`;
  }

  write(event: TraceEvent): void {
    this.#text += isAccess(event) ? accessLine(event) : `${JSON.stringify(plain(event))}\n`;
    if (this.#text.length >= BUFFER_CHARACTERS) this.flush();
  }

  flush(): void {
    const text = this.#text;
    this.#text = "";
    if (text !== "") this.#write(text);
  }
}

/** Lines of `events`, with the first line. */
export function encodeTrace({ header, events }: Trace): string {
  let text = "";
  const lines = new JsonLines((more) => {
    text += more;
  }, new Date(header.started));
  for (const event of events) lines.write(event);
  lines.flush();
  return text;
}

/**
 * Reads a trace. Throws `TRACE_INVALID`, with the line, for what is none, and `TRACE_VERSION` for one of another version. A
 * last line that was cut off, by a process that was killed, is left out.
 */
export function parseTrace(text: string): Trace {
  const lines = text.split("\n");
  const first = lines[0] ?? "";
  const header = parseHeader(first);
  const events: TraceEvent[] = [];
  for (let at = 1; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (line === "") continue;
    const cutOff = at === lines.length - 1;
    const event = parseLine(line, at + 1, cutOff);
    if (event !== undefined) events.push(event);
  }
  return { header, events };
}

/** Reads the first line. Throws `TRACE_INVALID`, `TRACE_VERSION`. */
export function parseHeader(line: string): TraceHeader {
  const value = jsonOf(line);
  if (!isRecord(value) || value["ring3"] !== "trace" || typeof value["started"] !== "string") {
    throw new Ring3Error(
      "TRACE_INVALID",
      'this is no trace of ring3: its first line is not {"ring3":"trace","trace":1,"started":...}',
    );
  }
  const { trace, started } = value;
  if (trace !== TRACE_VERSION) {
    throw new Ring3Error(
      "TRACE_VERSION",
      `the trace has version ${JSON.stringify(trace)} of the format; this ring3 reads version ${TRACE_VERSION}`,
    );
  }
  if (Number.isNaN(Date.parse(started))) {
    throw new Ring3Error("TRACE_INVALID", `line 1: "started" is no time: ${JSON.stringify(started)}`);
  }
  return { trace, started };
}

/** Reads one of the other lines; `undefined` for one that may be cut off and is no JSON. Throws `TRACE_INVALID`. */
export function parseLine(line: string, number: number, cutOff = false): TraceEvent | undefined {
  const value = jsonOf(line);
  if (value === undefined && cutOff) return undefined;
  try {
    if (!isRecord(value)) throw new RangeError("is no JSON object");
    return readEvent(value);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Ring3Error("TRACE_INVALID", `line ${number} ${error.message}`);
  }
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value as text does not change: fields of the value that a register had last need not be written anew. */
const decodedTexts: WeakMap<DecodedValue, string> = new WeakMap();

function decodedText(decoded: DecodedValue): string {
  let text = decodedTexts.get(decoded);
  if (text === undefined) {
    const fields = Object.keys(decoded.fields).length === 0 ? "" : `,"fields":${JSON.stringify(decoded.fields)}`;
    text = `,"register":${JSON.stringify(decoded.register)}${fields}`;
    decodedTexts.set(decoded, text);
  }
  return text;
}

function accessLine(event: AccessEvent): string {
  let text = `{"t":${event.t},"fn":${event.fn}`;
  if (event.user !== undefined) text += `,"user":${JSON.stringify(event.user)}`;
  text += `,"type":"${event.type}","op":"${event.op}"`;
  if (event.bar !== undefined) text += `,"bar":${event.bar}`;
  text += `,"offset":"0x${event.offset.toString(16)}"`;
  if (event.bytes !== undefined) text += `,"bytes":"${hexOf(event.bytes)}"`;
  else text += `,"width":${event.width}`;
  if (event.value !== undefined) text += `,"value":"0x${event.value.toString(16).padStart(event.width * 2, "0")}"`;
  if (event.decoded !== undefined) text += event.decoded.json ?? decodedText(event.decoded);
  text += `,"took":${event.took}`;
  if (event.error !== undefined) text += `,"error":${JSON.stringify(event.error)}`;
  return `${text}}\n`;
}

/** An event as it is written: addresses and bytes in hexadecimal. */
function plain(event: Exclude<TraceEvent, AccessEvent>): Record<string, unknown> {
  const { t, fn, user, type, ...rest } = event;
  const head = { t, fn, ...(user === undefined ? {} : { user }), type };
  const fields = Object.entries(rest).map(([name, value]: [string, unknown]): [string, unknown] => {
    if (value instanceof Uint8Array) return [name, hexOf(value)];
    if (name === "iova" || name === "offset") return [name, `0x${(value as number).toString(16)}`];
    return [name, value];
  });
  return { ...head, ...Object.fromEntries(fields) };
}

const hexBytes: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

function hexOf(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += hexBytes[byte];
  return text;
}
