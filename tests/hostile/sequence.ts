// A hostile sequence: messages with descriptors, as they go into the socket.

/** Which descriptor to send along; see `descriptor-supply.ts`. */
export type DescriptorKind =
  | "guarded"
  | "ram"
  | "sealed"
  | "unsealed"
  | "unsealable"
  | "read-only"
  | "write-only"
  | "path-only"
  | "file"
  | "null"
  | "pipe-read"
  | "pipe-write"
  | "socket"
  | "own-socket"
  | "event"
  | "blocking-event"
  | "full-event"
  | "directory"
  | "epoll"
  | "proc";

export interface Step {
  /** A message, or what claims to be one. */
  readonly bytes: Uint8Array;
  readonly fds: readonly DescriptorKind[];
  /** Where to cut it into sends of their own; the first carries the descriptors. */
  readonly cuts?: readonly number[];
}

/** What the client does about commands of the server. */
export type Manners = "honest" | "lying" | "silent";

export interface Sequence {
  readonly steps: readonly Step[];
  readonly manners: Manners;
  /** The first message of a connection of its own, in place of an honest greeting. */
  readonly greeting?: Uint8Array;
  /** Memory files shrink after it. */
  readonly truncates?: boolean;
}

export const HEADER_BYTES = 16;
/** Ids from here on are the tests' own. */
export const FIRST_MARKER = 0xf000;

/** Whether every message is as long as it says: what follows it is understood then. */
export function isFramed(sequence: Sequence): boolean {
  return sequence.steps.every(({ bytes }) => {
    if (bytes.length < HEADER_BYTES) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    return view.getUint32(4, true) === bytes.length;
  });
}

/** For messages of failed tests. */
export function describe({ steps, manners, greeting, truncates }: Sequence): string {
  const lines = steps.map(({ bytes, fds, cuts }) => {
    const hex = Buffer.from(bytes.subarray(0, 160)).toString("hex");
    const more = bytes.length > 160 ? `... (${bytes.length} bytes)` : "";
    return `  ${hex}${more}${fds.length > 0 ? ` fds ${fds.join(",")}` : ""}${cuts ? ` cut at ${cuts.join(",")}` : ""}`;
  });
  const head = `${manners}${truncates === true ? ", truncates" : ""}`;
  const first = greeting === undefined ? [] : [`  greeting ${Buffer.from(greeting).toString("hex")}`];
  return [head, ...first, ...lines].join("\n");
}
