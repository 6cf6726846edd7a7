// The payload of echo datagrams: eight bytes that say which one it is, and bytes that differ with it. Who sent it can check
// every byte without having kept it.

/** Sequence number and a number of the sender. */
const PAYLOAD_HEAD_BYTES = 8;

export function fillPayload(bytes: Uint8Array, sender: number, sequence: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  view.setUint32(0, sequence);
  view.setUint32(4, sender);
  for (let i = PAYLOAD_HEAD_BYTES; i < bytes.length; i++) bytes[i] = byteAt(sender, sequence, i);
}

/** The sequence number of the `length` bytes at `at`; -1 where any of them is not as it was sent. */
export function checkPayload(bytes: Uint8Array, at: number, length: number, sender: number, sizeBytes: number): number {
  if (length !== sizeBytes || length < PAYLOAD_HEAD_BYTES) return -1;
  const word = (from: number): number => {
    let value = 0;
    for (let i = 0; i < 4; i++) value = value * 256 + (bytes[at + from + i] as number);
    return value;
  };
  const sequence = word(0);
  if (word(4) !== sender) return -1;
  for (let i = PAYLOAD_HEAD_BYTES; i < length; i++) if (bytes[at + i] !== byteAt(sender, sequence, i)) return -1;
  return sequence;
}

function byteAt(sender: number, sequence: number, index: number): number {
  return (Math.imul(sequence + sender, 0x9e37_79b1) + index * 31 + (index >>> 8)) & 0xff;
}
