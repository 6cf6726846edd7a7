// Where another user can run this project's programs: here, or, where the checkout lies below a directory that they may not
// enter, in a copy of what they need.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "../..");
const EXAMPLE = "examples/first-light.ts";

/** A place from which programs can be run. */
export interface Checkout {
  readonly node: string;
  /** The command `ring3`. */
  readonly command: string;
  readonly example: string;
  readonly copied: boolean;
}

/** This checkout where `uid` can use it, else a copy below `directory`. */
export function checkoutFor(uid: number | undefined, directory: string): Checkout {
  const here = placeAt(root, process.execPath, false);
  if (uid === undefined || canRun(uid, here)) return here;
  const copy = join(directory, "checkout");
  for (const path of [
    "packages/ring3/package.json",
    "packages/ring3/src",
    "packages/cli/package.json",
    "packages/cli/src",
  ]) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  for (const path of [EXAMPLE, "node_modules/koffi", "node_modules/@koromix", "package.json"]) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  symlinkSync("../packages/ring3", join(copy, "node_modules/ring3"));
  const node = join(copy, "bin/node");
  mkdirSync(dirname(node));
  cpSync(process.execPath, node);
  spawnSync("chmod", ["-R", "a+rX", copy]);
  return placeAt(copy, node, true);
}

function placeAt(at: string, node: string, copied: boolean): Checkout {
  return { node, command: join(at, "packages/cli/src/main.ts"), example: join(at, EXAMPLE), copied };
}

/** Whether `uid` gets the command to start there, with everything that it loads. */
function canRun(uid: number, { node, command }: Checkout): boolean {
  const { status } = spawnSync(node, [command, "--version"], {
    uid,
    gid: uid,
    stdio: "ignore",
    cwd: "/",
    timeout: 60_000,
  });
  return status === 0;
}
