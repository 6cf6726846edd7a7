#!/usr/bin/env node
// Where the command `ring3` starts. It keeps what V8 compiles, and from the sources what is left of TypeScript once its types
// are gone, which else takes longer than all the rest. The cache is code that will run: only a directory that nobody else
// may write to is used, and never one in /tmp.
import { lstatSync, mkdirSync } from "node:fs";
import { enableCompileCache } from "node:module";

const { env, geteuid } = process;
const caches = env.XDG_CACHE_HOME || (env.HOME ? `${env.HOME}/.cache` : undefined);
const uid = geteuid?.();
if (caches?.startsWith("/") && uid !== undefined && isOwn(`${caches}/ring3/compiled-${uid}`)) {
  enableCompileCache(`${caches}/ring3/compiled-${uid}`);
}
void import("./main.ts");

/** @param {string} directory */
function isOwn(directory) {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // Under sudo the home may be that of another user, who then could put code into root's cache.
    return [directory, `${directory}/..`, `${directory}/../..`].every((place) => {
      const status = lstatSync(place);
      return status.isDirectory() && status.uid === uid && (status.mode & 0o022) === 0;
    });
  } catch {
    return false;
  }
}
