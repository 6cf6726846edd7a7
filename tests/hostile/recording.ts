// Recorded sessions of QEMU, as text that a person can read: a line per message, `command[/flags] payload [fds]`, the same
// line again as `*count`. Message ids and sizes are put back when they are read.
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** `m`: memory, `e`: eventfd. */
export type RecordedFd = "m" | "e";

export interface RecordedFrame {
  /** With the header. */
  readonly bytes: Uint8Array;
  readonly fds: readonly RecordedFd[];
}

export interface RecordedSession {
  /** Which device was driven, as `served-devices.ts` names it. */
  readonly device: string;
  readonly name: string;
  readonly frames: readonly RecordedFrame[];
}

interface StoredSession {
  readonly device: string;
  readonly name: string;
  readonly messages: readonly string[];
}

interface StoredRecording {
  readonly about: string;
  readonly sessions: readonly StoredSession[];
}

const HEADER_BYTES = 16;
export const RECORDING: string = join(import.meta.dirname, "sessions.json");

function line({ bytes, fds }: RecordedFrame): string {
  const buffer = Buffer.from(bytes);
  const flags = buffer.readUInt32LE(8);
  const head = `${buffer.readUInt16LE(2)}${flags === 0 ? "" : `/${flags.toString(16)}`}`;
  // Runs of zero bytes are most of every message.
  const payload = buffer
    .subarray(HEADER_BYTES)
    .toString("hex")
    .replace(/(?:00){3,}/g, (zeros, at: number) => (at % 2 === 0 ? `z${(zeros.length / 2).toString()}.` : zeros));
  return `${head} ${payload}${fds.length === 0 ? "" : ` ${fds.join("")}`}`.trimEnd();
}

function parse(text: string, id: number): RecordedFrame {
  const [head = "", payload = "", fds = ""] = text.split(" ");
  const [command = "0", flags = "0"] = head.split("/");
  const hex = payload.replace(/z(\d+)\./g, (_, count: string) => "00".repeat(Number(count)));
  const body = Buffer.from(hex, "hex");
  const bytes = Buffer.alloc(HEADER_BYTES + body.length);
  bytes.writeUInt16LE(id & 0xffff, 0);
  bytes.writeUInt16LE(Number(command), 2);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.writeUInt32LE(Number.parseInt(flags, 16), 8);
  body.copy(bytes, HEADER_BYTES);
  return { bytes, fds: fds.split("") as RecordedFd[] };
}

export function encodeRecording(about: string, sessions: readonly RecordedSession[]): string {
  const stored: StoredRecording = {
    about,
    sessions: sessions.map(({ device, name, frames }) => {
      const messages: string[] = [];
      let last = "";
      let repeated = 0;
      const flush = (): void => {
        if (repeated > 0) messages.push(`*${repeated}`);
        repeated = 0;
      };
      for (const frame of frames) {
        const text = line(frame);
        if (text === last) repeated++;
        else {
          flush();
          messages.push(text);
          last = text;
        }
      }
      flush();
      return { device, name, messages };
    }),
  };
  return `${JSON.stringify(stored, undefined, 0).replaceAll('","', '",\n"')}\n`;
}

export function readRecording(path: string = RECORDING): RecordedSession[] {
  const { sessions } = JSON.parse(readFileSync(path, "utf8")) as StoredRecording;
  return sessions.map(({ device, name, messages }) => {
    const frames: RecordedFrame[] = [];
    for (const text of messages) {
      const again = text.startsWith("*") ? Number(text.slice(1)) : 0;
      const last = frames.at(-1);
      if (again > 0 && last !== undefined) for (let i = 0; i < again; i++) frames.push(last);
      else frames.push(parse(text, frames.length + 1));
    }
    return { device, name, frames };
  });
}

const REGION_WRITE = 10;
const PAGE = 4096;

/** Addresses of pages that a session told its device: where its queues were. */
export function pagesNamedIn(sessions: readonly RecordedSession[]): number[] {
  const pages = new Set<number>();
  for (const { frames } of sessions) {
    for (const { bytes } of frames) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      if (view.getUint16(2, true) !== REGION_WRITE || bytes.length !== HEADER_BYTES + 20) continue;
      const value = view.getUint32(HEADER_BYTES + 16, true);
      if (value >= 0x1000 && value < 2 ** 30 && value % 16 === 0) pages.add(value - (value % PAGE));
    }
  }
  return [...pages].sort((a, b) => a - b);
}
