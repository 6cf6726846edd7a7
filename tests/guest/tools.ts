// Programs of an unpacked package root, run with the root's own libraries: the machine's may be older than they need.
import { existsSync } from "node:fs";
import { join } from "node:path";

const LIBRARIES = "usr/lib/x86_64-linux-gnu";

/** A program and the arguments that come before its own. */
export interface Tool {
  readonly program: string;
  readonly args: readonly string[];
}

/** The program `name` of `root`'s /usr/bin, or /usr/sbin, through the root's own dynamic linker. */
export function debianTool(root: string, name: string): Tool {
  const paths = ["usr/bin", "usr/sbin"].map((directory) => join(root, directory, name));
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`no ${name} in ${root}`);
  const libraries = join(root, LIBRARIES);
  return { program: join(libraries, "ld-linux-x86-64.so.2"), args: ["--library-path", libraries, path] };
}
