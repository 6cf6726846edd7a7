// Extended attributes of files, by path: the access lists of device nodes are kept in one.
import { ERRNO, systemCallError } from "./errno.ts";
import * as native from "./native.ts";

/** The kernel's own limit for a value (XATTR_SIZE_MAX). */
const LARGEST = 65_536;

/** The attribute's value; `undefined` where the file has none, or its file system keeps none. Throws `SYSTEM_CALL`. */
export function extendedAttribute(path: string, name: string): Uint8Array | undefined {
  const bytes = new Uint8Array(LARGEST);
  const result = native.attemptCall(() => native.getxattr(path, name, bytes, bytes.length));
  if (result === -ERRNO.ENODATA[0] || result === -ERRNO.EOPNOTSUPP[0]) return undefined;
  if (result < 0) throw systemCallError(`getxattr ${path}`, -result);
  return bytes.slice(0, result);
}

/** Sets the attribute; `undefined` takes it away, which is no error where there is none. Throws `SYSTEM_CALL`. */
export function setExtendedAttribute(path: string, name: string, value: Uint8Array | undefined): void {
  if (value !== undefined) {
    native.systemCall(`setxattr ${path}`, () => native.setxattr(path, name, value, value.length, 0));
    return;
  }
  const result = native.attemptCall(() => native.removexattr(path, name));
  if (result >= 0 || result === -ERRNO.ENODATA[0] || result === -ERRNO.EOPNOTSUPP[0]) return;
  throw systemCallError(`removexattr ${path}`, -result);
}
