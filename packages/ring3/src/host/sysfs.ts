// Reading sysfs. Anything may vanish between two reads, and some attributes refuse to be read (EACCES for an ordinary
// user, EIO or EINVAL from a device in a bad state): absent and unreadable both read as `undefined`.
import { lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { basename } from "node:path";

/** The file's text without the blanks around it; `undefined` where it cannot be read. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

/** An attribute that holds one number, decimal or `0x` hexadecimal. */
export function readNumber(path: string): number | undefined {
  const text = readText(path);
  if (text === undefined || !/^-?(?:0x[0-9a-f]+|\d+)$/i.test(text)) return undefined;
  const value = text.startsWith("-") ? -Number(text.slice(1)) : Number(text);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** The last component of what a symbolic link points at, the way that sysfs names a driver, a group or a function. */
export function readLinkName(path: string): string | undefined {
  try {
    return basename(readlinkSync(path));
  } catch {
    return undefined;
  }
}

/** Names in a directory, sorted; empty where there is no such directory. */
export function listNames(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

/** The path with every link followed; `undefined` where it does not exist. */
export function realPath(path: string): string | undefined {
  try {
    return realpathSync.native(path);
  } catch {
    return undefined;
  }
}

/** Whether the path itself exists, without following a link at its end. */
export function present(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
