// Lines out of a stream of bytes, each of them bounded: what a peer sends without an end is not kept.

const NEWLINE = 0x0a;

export class LineReader {
  readonly #maximumBytes: number;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes;
  }

  /** The lines that end in `chunk`; `undefined` where one is too long, after which nothing is to be read any more. */
  push(chunk: Uint8Array): string[] | undefined {
    const lines: string[] = [];
    let from = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, from);
      const part = chunk.subarray(from, end < 0 ? chunk.length : end);
      this.#bytes += part.length;
      if (this.#bytes > this.#maximumBytes) return undefined;
      // A copy, since the chunk is the stream's and what is kept may be a byte of it.
      if (part.length > 0) this.#parts.push(part.slice());
      if (end < 0) return lines;
      lines.push(this.rest());
      from = end + 1;
    }
  }

  /** What has come since the last line ended; a stream may end without ending its line. */
  rest(): string {
    const text = Buffer.concat(this.#parts).toString("utf8");
    this.#parts = [];
    this.#bytes = 0;
    return text;
  }
}
