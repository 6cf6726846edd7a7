// A tap interface: Ethernet frames to and from the machine's own network stack. Making one needs CAP_NET_ADMIN; one that an
// administrator made for a user (`ip tuntap add dev tap0 mode tap user alice`) needs nothing.
import { Ring3Error } from "../binary/error.ts";
import { ERRNO, systemCallError } from "./errno.ts";
import { FileDescriptor, OPEN } from "./file-descriptor.ts";
import { tryIoctl } from "./ioctl.ts";
import * as native from "./native.ts";
import { type Watch, watch } from "./poller.ts";

const TUNSETIFF = 0x4004_54ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
/** struct ifreq: the name, then the flags. */
const IFREQ_SIZE = 40;
const NAME_BYTES = 16;
const FLAGS_AT = 16;
/** Larger than any frame that the interface gives without offloads. */
const FRAME_BYTES = 65_536;
/** Frames taken in one turn of the event loop, so that nobody else starves. */
const BURST = 64;

/** An open tap interface, a link for a network device. Disposal closes it; an interface that was made here goes with it. */
export class Tap implements Disposable {
  readonly name: string;
  readonly #fd: FileDescriptor;
  readonly #frame = new Uint8Array(FRAME_BYTES);
  #watch: Watch | undefined;
  #dropped = 0;

  /** Opens the interface `name`, or makes it. Throws `TAP_NAME`, or `SYSTEM_CALL` with the fix. */
  constructor(name: string) {
    if (!/^[A-Za-z0-9_.-]{1,15}$/.test(name)) {
      throw new Ring3Error("TAP_NAME", `"${name}" is no name of a network interface: 1 to 15 letters or digits`);
    }
    this.name = name;
    const fix = "the device node is everybody's (chmod 666), and comes with: modprobe tun";
    const fd = FileDescriptor.open("/dev/net/tun", OPEN.READ_WRITE | OPEN.NONBLOCK, 0, fix);
    const request = new Uint8Array(IFREQ_SIZE);
    request.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1));
    new DataView(request.buffer).setUint16(FLAGS_AT, IFF_TAP | IFF_NO_PI, true);
    const result = tryIoctl(fd, TUNSETIFF, request);
    if (result < 0) {
      fd.close();
      throw systemCallError(`ioctl TUNSETIFF ${name}`, -result, fixFor(-result, name));
    }
    this.#fd = fd;
  }

  /** Frames that the machine did not take. */
  get dropped(): number {
    return this.#dropped;
  }

  /** There is a carrier as long as it is open. */
  get up(): boolean {
    return true;
  }

  /** The machine takes frames or drops them; it never asks to wait. */
  get congested(): boolean {
    return false;
  }

  /** Gives a frame to the machine; `false` where it does not take it now, and the frame is lost. */
  send(frame: Uint8Array): boolean {
    const number = this.#fd.number;
    const sent = native.attemptCall(() => native.write(number, frame, frame.length)) === frame.length;
    if (!sent) this.#dropped++;
    return sent;
  }

  /** Who hears of frames that come, whose bytes are valid during the call; `undefined` unplugs. */
  attach(receiver: { receive(frame: Uint8Array): boolean } | undefined): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
    if (receiver === undefined) return;
    const number = this.#fd.number;
    this.#watch = watch(this.#fd, () => {
      for (let taken = 0; taken < BURST && !this.#fd.closed; taken++) {
        const size = native.attemptCall(() => native.read(number, this.#frame, FRAME_BYTES));
        if (size <= 0) return;
        receiver.receive(this.#frame.subarray(0, size));
      }
    });
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
    this.#fd.close();
  }
}

function fixFor(errno: number, name: string): string {
  if (errno === ERRNO.EPERM[0]) return `have it made for you: sudo ip tuntap add dev ${name} mode tap user $USER`;
  if (errno === ERRNO.EBUSY[0]) return "another process has it open";
  return `is it a tap interface? ip -d link show ${name}`;
}
