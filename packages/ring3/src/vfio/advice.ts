// Commands and names that error messages suggest.
import { readFileSync, type Stats } from "node:fs";
import { userInfo } from "node:os";

/** The command by which an administrator hands a function to this user. */
export function bindCommand(address: string, ...options: readonly string[]): string {
  let user = "$USER";
  try {
    user = userInfo().username;
  } catch {
    // A uid without an entry in passwd has no name.
    user = String(process.getuid?.() ?? "$USER");
  }
  return ["sudo ring3 bind", address, "--user", user, ...options].join(" ");
}

function nameOf(file: string, id: number): string {
  try {
    const line = readFileSync(file, "utf8")
      .split("\n")
      .find((entry) => entry.split(":")[2] === String(id));
    return line?.split(":")[0] ?? String(id);
  } catch {
    return String(id);
  }
}

/** Owner and mode of a node, for people: `root:root, mode 0600`. */
export function ownerOf(stats: Stats): string {
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, "0");
  return `${nameOf("/etc/passwd", stats.uid)}:${nameOf("/etc/group", stats.gid)}, mode ${mode}`;
}

/** Bytes as people write limits. */
export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(bytes % 2 ** 20 === 0 ? 0 : 1)} MiB`;
}
