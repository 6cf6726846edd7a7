// One ioctl for everybody. Structures travel as bytes; addresses inside them are filled in here.
import { systemCallError } from "./errno.ts";
import type { FileDescriptor } from "./file-descriptor.ts";
import * as native from "./native.ts";
import { addressOf, type Pointable } from "./pointers.ts";

/** An address that the structure holds: 8 bytes at byte `at`, pointing to `memory`. */
export interface EmbeddedPointer {
  readonly at: number;
  readonly memory: Pointable;
}

let scratch = new Uint8Array(4096);
let scratchAddress = native.addressOfView(scratch);

/**
 * Calls ioctl and returns its result, or minus the errno. `argument` is a number, or a structure: the kernel works on a
 * copy, which is copied back afterwards, with embedded pointers filled in for the call and zero after it. `name` is the
 * request's, for whoever listens to calls.
 */
export function tryIoctl(
  fd: FileDescriptor,
  request: number,
  argument: number | Uint8Array = 0,
  pointers: readonly EmbeddedPointer[] = [],
  name: string = `0x${request.toString(16)}`,
): number {
  const number = fd.number;
  const call = `ioctl ${name}`;
  if (typeof argument === "number") return native.reportedCall(call, () => native.ioctl(number, request, argument));
  const size = argument.length;
  if (size > scratch.length) {
    scratch = new Uint8Array(2 ** Math.ceil(Math.log2(size)));
    scratchAddress = native.addressOfView(scratch);
  }
  scratch.set(argument);
  const view = new DataView(scratch.buffer, 0, size);
  for (const { at, memory } of pointers) view.setBigUint64(at, BigInt(addressOf(memory)), true);
  const result = native.reportedCall(call, () => native.ioctl(number, request, scratchAddress));
  for (const { at } of pointers) view.setBigUint64(at, 0n, true);
  argument.set(scratch.subarray(0, size));
  return result;
}

/** As `tryIoctl`, but a failure throws `SYSTEM_CALL`; `name` is the request's, for the message. */
export function ioctl(
  fd: FileDescriptor,
  name: string,
  request: number,
  argument: number | Uint8Array = 0,
  pointers: readonly EmbeddedPointer[] = [],
): number {
  const result = tryIoctl(fd, request, argument, pointers, name);
  if (result < 0) throw systemCallError(`ioctl ${name}`, -result);
  return result;
}
