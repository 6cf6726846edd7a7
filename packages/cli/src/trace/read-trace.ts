// Reading traces for a command: event by event, so that a long one needs no more memory than a short one, and from a pipe as
// well; with `follow` a file that still grows.
import { open } from "node:fs/promises";
import { parseHeader, parseLine, type TraceEvent, type TraceHeader } from "ring3/trace";
import type { Context } from "../context.ts";

const READ_BYTES = 256 * 1024;
const LOOK_AGAIN_MS = 100;

export interface TraceReading {
  readonly header: TraceHeader;
  readonly events: AsyncIterable<TraceEvent>;
}

/** Opens the trace at `path` (`-` is stdin). With `follow` it goes on until the command is interrupted or a `close` comes. */
export async function readTrace(path: string, context: Context, follow = false): Promise<TraceReading> {
  const lines = linesOf(path === "-" ? context.streams.stdin : piecesOf(path, context, follow));
  const first = await lines.next();
  try {
    const header = parseHeader(first.done === true ? "" : first.value.text);
    return { header, events: eventsOf(lines, follow) };
  } catch (error) {
    await lines.return();
    throw error;
  }
}

interface Line {
  readonly text: string;
  /** Whether the file ended before the line did. */
  readonly cutOff: boolean;
}

async function* eventsOf(lines: AsyncGenerator<Line, void>, follow: boolean): AsyncGenerator<TraceEvent, void> {
  let number = 1;
  for await (const { text, cutOff } of lines) {
    number++;
    const event = text === "" ? undefined : parseLine(text, number, cutOff);
    if (event === undefined) continue;
    yield event;
    if (follow && event.type === "close") return;
  }
}

async function* linesOf(pieces: AsyncIterable<unknown>): AsyncGenerator<Line, void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece as Uint8Array, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) yield { text, cutOff: false };
  }
  if (rest !== "") yield { text: rest, cutOff: true };
}

async function* piecesOf(path: string, { signal }: Context, follow: boolean): AsyncGenerator<Uint8Array, void> {
  await using file = await open(path, "r");
  const buffer = new Uint8Array(READ_BYTES);
  while (!signal.aborted) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, null);
    if (bytesRead > 0) yield buffer.slice(0, bytesRead);
    else if (!follow) return;
    else await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
  signal.throwIfAborted();
}
