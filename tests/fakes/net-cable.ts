// A stack over virtio-net in process, with a test on the other side of the cable that writes and reads every frame by hand.
import assert from "node:assert/strict";
import type { NetLink, NetReceiver } from "../../packages/ring3/src/devices/virtio/index.ts";
import { VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import { get16, put16, put32 } from "../../packages/ring3/src/drivers/net/byte-order.ts";
import { finishSum, sumBytes } from "../../packages/ring3/src/drivers/net/checksum.ts";
import { ipv4 } from "../../packages/ring3/src/drivers/net/ipv4-address.ts";
import { Stack } from "../../packages/ring3/src/drivers/net/stack.ts";
import type { StackOptions } from "../../packages/ring3/src/drivers/net/stack-options.ts";
import { putUdpHeader } from "../../packages/ring3/src/drivers/net/udp.ts";
import { VirtioNetDriver } from "../../packages/ring3/src/drivers/virtio/net-driver.ts";
import { inProcess } from "../../packages/ring3/src/virtual/index.ts";

export const OURS: readonly number[] = [0x52, 0x54, 0, 0, 0, 1];
export const THEIRS: readonly number[] = [0x52, 0x54, 0, 0, 0, 2];
export const ADDRESS: number = ipv4("192.0.2.1");
export const PEER: number = ipv4("192.0.2.2");

/** A cable whose other end is the test. */
export class Cable implements NetLink {
  readonly up = true;
  readonly congested = false;
  readonly frames: Uint8Array[] = [];
  #receiver: NetReceiver | undefined;
  #waiting: (() => void)[] = [];

  send(frame: Uint8Array): boolean {
    this.frames.push(frame.slice());
    for (const waiting of this.#waiting.splice(0)) waiting();
    return true;
  }

  attach(receiver: NetReceiver | undefined): void {
    this.#receiver = receiver;
  }

  give(frame: Uint8Array): void {
    assert.ok(this.#receiver?.receive(frame));
  }

  /** The next frame that `matches`; those before it are forgotten. */
  async next(matches: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    for (;;) {
      for (let frame = this.frames.shift(); frame !== undefined; frame = this.frames.shift()) {
        if (matches(frame)) return frame;
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}

/** A stack on one end of a cable. */
export interface Station extends AsyncDisposable {
  readonly cable: Cable;
  readonly starting: Promise<Stack>;
  /** Closes the device under the stack. */
  close(): Promise<void>;
}

export async function station(options: StackOptions = { address: "192.0.2.1/24" }): Promise<Station> {
  const cable = new Cable();
  const mac = OURS.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  const fn = inProcess(new VirtioNet({ link: cable, mac }));
  const driver = await VirtioNetDriver.start(fn);
  const starting = Stack.start(driver, options);
  const close = async (): Promise<void> => {
    await driver[Symbol.asyncDispose]();
    await fn[Symbol.asyncDispose]();
  };
  return {
    cable,
    starting,
    close,
    [Symbol.asyncDispose]: async () => {
      await (await starting)[Symbol.asyncDispose]();
      await close();
    },
  };
}

export const isArp = (frame: Uint8Array): boolean => get16(frame, 12) === 0x0806;
export const isIp =
  (protocol: number): ((frame: Uint8Array) => boolean) =>
  (frame) =>
    get16(frame, 12) === 0x0800 && frame[23] === protocol;

export function arp(
  operation: number,
  sender: readonly number[],
  address: number,
  target: number,
  source: readonly number[] = sender,
): Uint8Array {
  const frame = new Uint8Array(60);
  frame.set([
    ...(operation === 1 ? [255, 255, 255, 255, 255, 255] : OURS),
    ...source,
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    operation,
    ...sender,
  ]);
  put32(frame, 28, address);
  put32(frame, 38, target);
  return frame;
}

export function datagram(
  protocol: number,
  payload: Uint8Array,
  options: { source?: number; destination?: number; fragment?: number; id?: number; mac?: readonly number[] } = {},
): Uint8Array {
  const { source = PEER, destination = ADDRESS, fragment = 0, id = 7, mac = OURS } = options;
  const frame = new Uint8Array(Math.max(60, 34 + payload.length));
  frame.set([...mac, ...THEIRS, 8, 0, 0x45, 0], 0);
  put16(frame, 16, 20 + payload.length);
  put16(frame, 18, id);
  put16(frame, 20, fragment);
  frame.set([64, protocol], 22);
  put32(frame, 26, source);
  put32(frame, 30, destination);
  put16(frame, 24, finishSum(sumBytes(frame, 14, 20)));
  frame.set(payload, 34);
  return frame;
}

export function udp(port: number, data: Uint8Array, source: number = PEER, destination: number = ADDRESS): Uint8Array {
  const bytes = new Uint8Array(8 + data.length);
  bytes.set(data, 8);
  putUdpHeader(bytes, 0, 1000, port, data.length, source, destination);
  return bytes;
}
