// The secret that the drivers of a physical function and of its virtual functions share, a UUID.
import { Ring3Error } from "../binary/error.ts";

/** The 16 bytes of a UUID, in the order of its text. Throws `VF_TOKEN_INVALID`. */
export function uuidBytes(text: string): Uint8Array {
  const digits = text.replaceAll("-", "");
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)) {
    throw new Ring3Error("VF_TOKEN_INVALID", "a VF token is a UUID such as crypto.randomUUID() makes");
  }
  return Uint8Array.from({ length: 16 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}
