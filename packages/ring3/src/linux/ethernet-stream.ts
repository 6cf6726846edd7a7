// Ethernet frames over a stream socket as QEMU's `-netdev stream` speaks them: each behind its length, 32 bits, big endian.
// Either side may be the one that listens. A link that is full loses frames, as a wire would, and one that ends is set up
// again when its peer comes back.
import { connect, createServer, type Server, type Socket } from "node:net";
import { Ring3Error } from "../binary/error.ts";
import { FrameAssembler } from "./frame-assembler.ts";

const LENGTH_BYTES = 4;
/** QEMU's NET_BUFSIZE: a longer frame means that the stream is out of step. */
const MAXIMUM_FRAME_BYTES = 4096 + 65_536;
/** What may wait to be sent before senders had better wait, and before frames are lost. */
const CONGESTED_BYTES = 256 * 1024;
const MAXIMUM_WAITING_BYTES = 1024 * 1024;
/** Nothing protects the frames of a TCP connection, so that it must not leave the machine. */
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

/** Who is plugged into a link. */
export interface EthernetReceiver {
  receive(frame: Uint8Array): boolean;
  linkChanged(up: boolean): void;
  writable(): void;
}

/** The path of a UNIX socket, or a TCP port of this machine; `host` is `127.0.0.1` by default. */
export type StreamAddress = string | { readonly port: number; readonly host?: string };

/** A link over a stream socket. Disposal ends it. */
export class EthernetStream implements Disposable {
  readonly #address: StreamAddress;
  readonly #retryMs: number;
  #server: Server | undefined;
  #socket: Socket | undefined;
  #receiver: EthernetReceiver | undefined;
  #retry: NodeJS.Timeout | undefined;
  #dropped = 0;
  #closed = false;

  /**
   * Connects to QEMU's `-netdev stream,server=on,addr.type=unix,addr.path=PATH`, and again whenever the connection ends or
   * nobody is there yet. Throws `STREAM_ADDRESS` for a host other than this one.
   */
  constructor(address: StreamAddress, { retryMs = 1000 }: { readonly retryMs?: number } = {}) {
    this.#address = checkAddress(address);
    this.#retryMs = retryMs;
    if (retryMs !== Number.POSITIVE_INFINITY) this.#connect();
  }

  /**
   * Waits at `address` for QEMU's `-netdev stream,server=off`, one peer at a time; port 0 takes any. Rejects with
   * `STREAM_LISTEN` where the address is taken.
   */
  static async listen(address: StreamAddress): Promise<EthernetStream> {
    const stream = new EthernetStream(address, { retryMs: Number.POSITIVE_INFINITY });
    await stream.#listen();
    return stream;
  }

  /** Where it listens, or connects to. */
  get address(): string {
    if (typeof this.#address === "string") return this.#address;
    const bound = this.#server?.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : this.#address.port;
    return `${this.#address.host ?? "127.0.0.1"}:${port}`;
  }

  /** Whether the peer is there. */
  get up(): boolean {
    return this.#socket?.readyState === "open";
  }

  /** Whether so much waits that frames had better wait too. */
  get congested(): boolean {
    return (this.#socket?.writableLength ?? 0) > CONGESTED_BYTES;
  }

  /** Frames that nobody took. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Sends a frame, which is copied; `false` where nobody is there or too much waits already, and it is lost. */
  send(frame: Uint8Array): boolean {
    const socket = this.#socket;
    const lost = socket === undefined || !this.up || socket.writableLength > MAXIMUM_WAITING_BYTES;
    if (lost || frame.length > MAXIMUM_FRAME_BYTES) {
      this.#dropped++;
      return false;
    }
    const message = Buffer.allocUnsafe(LENGTH_BYTES + frame.length);
    message.writeUInt32BE(frame.length);
    message.set(frame, LENGTH_BYTES);
    socket.write(message);
    return true;
  }

  /** Who hears of frames that come, whose bytes are valid during the call; `undefined` unplugs. */
  attach(receiver: EthernetReceiver | undefined): void {
    this.#receiver = receiver;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#server?.close();
    this.#socket?.destroy();
  }

  #connect(): void {
    const address = this.#address;
    const socket =
      typeof address === "string"
        ? connect(address)
        : connect({ port: address.port, host: address.host ?? "127.0.0.1", noDelay: true });
    socket.once("connect", () => this.#receiver?.linkChanged(true));
    this.#use(socket);
  }

  #listen(): Promise<void> {
    const address = this.#address;
    const server = createServer({ noDelay: true }, (socket) => {
      if (this.#socket !== undefined || this.#closed) {
        socket.destroy();
        return;
      }
      this.#use(socket);
      this.#receiver?.linkChanged(true);
    });
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once("listening", resolve);
      server.on("error", (error: NodeJS.ErrnoException) => {
        const errno = error.code === undefined ? {} : { errno: error.code };
        reject(
          new Ring3Error("STREAM_LISTEN", `cannot listen at ${this.address}: ${error.message}; is it in use?`, errno),
        );
      });
      if (typeof address === "string") server.listen(address);
      else server.listen(address.port, address.host ?? "127.0.0.1");
    });
  }

  #use(socket: Socket): void {
    const assembler = new FrameAssembler(MAXIMUM_FRAME_BYTES);
    let wasUp = socket.readyState === "open";
    this.#socket = socket;
    socket.once("connect", () => {
      wasUp = true;
    });
    socket.on("drain", () => this.#receiver?.writable());
    const take = (frame: Uint8Array): void => void this.#receiver?.receive(frame);
    socket.on("data", (chunk) => {
      // A Buffer's `slice` does not copy; whoever gets frames counts on that it does.
      const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
      if (!assembler.push(bytes, take)) socket.destroy();
    });
    // Whatever ended it, it is tried again.
    socket.on("error", () => undefined);
    socket.once("close", () => {
      this.#socket = undefined;
      if (wasUp) this.#receiver?.linkChanged(false);
      if (!this.#closed && this.#server === undefined) {
        this.#retry = setTimeout(() => this.#connect(), this.#retryMs);
      }
    });
  }
}

function checkAddress(address: StreamAddress): StreamAddress {
  if (typeof address === "string" || LOOPBACK.test(address.host ?? "127.0.0.1")) return address;
  throw new Ring3Error(
    "STREAM_ADDRESS",
    `${address.host} is not this machine, and the frames would go there unprotected; use 127.0.0.1 and a tunnel`,
  );
}
