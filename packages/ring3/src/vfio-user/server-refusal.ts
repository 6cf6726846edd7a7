// Errors that a client is answered with: any Ring3Error that names an errno.
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import { ERRNO, type ErrnoName } from "../linux/index.ts";

/** An error that becomes a reply with this errno. */
export function refusal(errno: ErrnoName, why: string): Ring3Error {
  return new Ring3Error("REQUEST_REFUSED", why, { errno });
}

/** Number of the errno that tells a client of `error`. */
export function errnoOf(error: unknown): number {
  const name = isRing3Error(error) ? error.errno : undefined;
  if (name === undefined) return isRing3Error(error) ? ERRNO.EINVAL[0] : ERRNO.EIO[0];
  if (name in ERRNO) return ERRNO[name as ErrnoName][0];
  return Number(name.slice(1)) || ERRNO.EIO[0];
}

/** Throws `EINVAL` unless the payload has `size` bytes at least. */
export function checkPayload(payload: Uint8Array, size: number, what: string): void {
  if (payload.length >= size) return;
  throw refusal("EINVAL", `${what} takes ${size} bytes, ${payload.length} came`);
}
