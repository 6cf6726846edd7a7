// A UDP frame that is written again and again with another sequence number: RFC 768, RFC 791. Its UDP checksum is zero, which
// says that there is none.

const SEQUENCE_AT = 42;

export interface FrameShape {
  /** Six bytes each. */
  readonly to: Uint8Array;
  readonly from: Uint8Array;
  readonly source: { readonly address: string; readonly port: number };
  readonly destination: { readonly address: string; readonly port: number };
  /** Bytes of the frame. */
  readonly size: number;
}

export class FrameTemplate {
  readonly #bytes: Uint8Array;

  constructor({ to, from, source, destination, size }: FrameShape) {
    const bytes = new Uint8Array(size);
    const view = new DataView(bytes.buffer);
    bytes.set(to, 0);
    bytes.set(from, 6);
    bytes.set([0x08, 0x00, 0x45, 0], 12);
    view.setUint16(16, size - 14);
    bytes.set([64, 17], 22);
    bytes.set(source.address.split(".").map(Number), 26);
    bytes.set(destination.address.split(".").map(Number), 30);
    let sum = 0;
    for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
    sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(24, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
    view.setUint16(34, source.port);
    view.setUint16(36, destination.port);
    view.setUint16(38, size - 34);
    for (let i = SEQUENCE_AT + 4; i < size; i++) bytes[i] = i & 0xff;
    this.#bytes = bytes;
  }

  /** Writes frame `sequence` at `place`. */
  write(target: Uint8Array, place: number, sequence: number): void {
    const bytes = this.#bytes;
    for (let i = 0; i < bytes.length; i++) target[place + i] = bytes[i] as number;
    for (let i = 0; i < 4; i++) target[place + SEQUENCE_AT + i] = sequence >>> (24 - 8 * i);
  }
}
