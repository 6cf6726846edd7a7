// JSON lines out of a stream of bytes from somebody who may send anything: lines are bounded before they are decoded.
import { Ring3Error } from "../../binary/error.ts";

const NEWLINE = 0x0a;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Puts the pieces of a stream together to lines. */
export class LineReader {
  readonly #maximumBytes: number;
  #held: Uint8Array;
  #length = 0;

  /** `maximumBytes`: the longest line, its end not counted. */
  constructor(maximumBytes: number) {
    this.#maximumBytes = maximumBytes;
    this.#held = new Uint8Array(Math.min(256, maximumBytes));
  }

  /** Bytes of a line whose end has not come yet. */
  get unfinished(): number {
    return this.#length;
  }

  /**
   * The lines that `chunk` completes, without their ends, empty ones left out; the chunk is copied. Throws `LINE_TOO_LONG`;
   * nothing more can be read then. Bytes that are no UTF-8 become U+FFFD, which no message has.
   */
  *push(chunk: Uint8Array): Generator<string, void, undefined> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#hold(chunk.subarray(start, end));
      start = end + 1;
      const text = decoder.decode(this.#held.subarray(0, this.#length));
      this.#length = 0;
      if (text.trim() !== "") yield text;
    }
    this.#hold(chunk.subarray(start));
  }

  #hold(piece: Uint8Array): void {
    const length = this.#length + piece.length;
    if (length > this.#maximumBytes) {
      throw new Ring3Error("LINE_TOO_LONG", `a line has ${this.#maximumBytes} bytes at most; send a message a line`);
    }
    if (length > this.#held.length) {
      const grown = new Uint8Array(Math.min(Math.max(2 * this.#held.length, length), this.#maximumBytes));
      grown.set(this.#held.subarray(0, this.#length));
      this.#held = grown;
    }
    this.#held.set(piece, this.#length);
    this.#length = length;
  }
}
