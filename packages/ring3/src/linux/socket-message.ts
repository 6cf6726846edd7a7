// A message of a socket as the kernel wants it: its header is built once, and points to bytes and descriptors in turn.
import { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x08;
/** The kernel takes no more descriptors in one message. */
export const MAXIMUM_FDS = 253;
const NO_FDS: readonly FileDescriptor[] = [];

// struct msghdr and struct cmsghdr of 64-bit Linux, little endian; what the C libraries call padding is zero.
const HEADER = { SIZE: 56, VECTOR: 16, VECTOR_COUNT: 24, CONTROL: 32, CONTROL_SIZE: 40, FLAGS: 48 } as const;
const CONTROL = { LEVEL: 8, TYPE: 12, DATA: 16 } as const;
const MAXIMUM_PARTS = 16;

/** A msghdr with its vector and control buffer, at fixed places. */
export class MessageHeader {
  readonly #header = new Uint8Array(HEADER.SIZE);
  readonly #headerView = new DataView(this.#header.buffer);
  readonly #vector = new BigUint64Array(2 * MAXIMUM_PARTS);
  readonly #control: Uint8Array;
  readonly #controlView: DataView;
  readonly #controlAddress: bigint;
  #lastPart: Uint8Array | undefined;
  #lastAddress = 0n;

  constructor(maximumFds: number) {
    this.#control = new Uint8Array(CONTROL.DATA + Math.ceil((4 * maximumFds) / 8) * 8);
    this.#controlView = new DataView(this.#control.buffer);
    this.#controlAddress = BigInt(native.addressOfView(this.#control));
    const vector = BigInt(native.addressOfView(new Uint8Array(this.#vector.buffer)));
    this.#headerView.setBigUint64(HEADER.VECTOR, vector, true);
  }

  /** Points the header to `parts` and returns it. */
  point(parts: readonly Uint8Array[]): Uint8Array {
    if (parts.length > MAXIMUM_PARTS) throw new RangeError(`at most ${MAXIMUM_PARTS} parts a message`);
    for (const [i, part] of parts.entries()) {
      // Receive buffers are the same again and again; an address is looked up once for them.
      if (part !== this.#lastPart || part.length === 0) {
        this.#lastPart = part;
        this.#lastAddress = BigInt(native.addressOfView(part));
      }
      this.#vector[2 * i] = this.#lastAddress;
      this.#vector[2 * i + 1] = BigInt(part.length);
    }
    this.#headerView.setUint32(HEADER.VECTOR_COUNT, parts.length, true);
    return this.#header;
  }

  putFds(fds: readonly FileDescriptor[]): void {
    if (fds.length > MAXIMUM_FDS) throw new RangeError(`at most ${MAXIMUM_FDS} file descriptors a message`);
    const size = fds.length === 0 ? 0 : CONTROL.DATA + 4 * fds.length;
    this.#setControl(size === 0 ? 0 : Math.ceil(size / 8) * 8);
    if (size === 0) return;
    this.#controlView.setBigUint64(0, BigInt(size), true);
    this.#controlView.setInt32(CONTROL.LEVEL, SOL_SOCKET, true);
    this.#controlView.setInt32(CONTROL.TYPE, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) this.#controlView.setInt32(CONTROL.DATA + 4 * i, fd.number, true);
  }

  clearFds(): void {
    this.#setControl(this.#control.length);
    this.#headerView.setUint32(HEADER.FLAGS, 0, true);
  }

  get controlTruncated(): boolean {
    return (this.#headerView.getUint32(HEADER.FLAGS, true) & MSG_CTRUNC) !== 0;
  }

  /** The descriptors that the kernel put into the control buffer. */
  takeFds(): readonly FileDescriptor[] {
    const end = this.#headerView.getUint32(HEADER.CONTROL_SIZE, true);
    if (end < CONTROL.DATA) return NO_FDS;
    const fds: FileDescriptor[] = [];
    for (let at = 0; at + CONTROL.DATA <= end; ) {
      const size = this.#controlView.getUint32(at, true);
      if (size < CONTROL.DATA || at + size > end) break;
      const level = this.#controlView.getInt32(at + CONTROL.LEVEL, true);
      if (level === SOL_SOCKET && this.#controlView.getInt32(at + CONTROL.TYPE, true) === SCM_RIGHTS) {
        for (let fd = at + CONTROL.DATA; fd + 4 <= at + size; fd += 4) {
          fds.push(new FileDescriptor(this.#controlView.getInt32(fd, true)));
        }
      }
      at += Math.ceil(size / 8) * 8;
    }
    return fds;
  }

  #setControl(size: number): void {
    this.#headerView.setBigUint64(HEADER.CONTROL, size === 0 ? 0n : this.#controlAddress, true);
    this.#headerView.setUint32(HEADER.CONTROL_SIZE, size, true);
  }
}
