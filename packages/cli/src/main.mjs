#!/usr/bin/env node
// Where the command `ring3` starts. It keeps what V8 compiles, and from the sources what is left of TypeScript once its types
// are gone, which else takes longer than all the rest. The cache is code that will run: only a directory that nobody else
// may write to is used, never one in /tmp, and under sudo never one in the home of another user.
import { lstatSync, mkdirSync } from "node:fs";
import { enableCompileCache } from "node:module";

const { env, geteuid } = process;
const uid = geteuid?.();
const base = env.XDG_CACHE_HOME || env.HOME;
if (uid !== undefined && base?.startsWith("/") && isOwn(base, 0o002)) {
  const parts = [...(env.XDG_CACHE_HOME ? [] : [".cache"]), "ring3", `compiled-${uid}`];
  const directory = parts.reduce((above, name) => (above === "" ? "" : own(`${above}/${name}`)), base);
  if (directory !== "") enableCompileCache(directory);
}
void import("./main.ts");

/**
 * Makes a directory where there is none; empty where it is not this user's alone.
 * @param {string} directory
 */
function own(directory) {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch {
    // There already, or not possible, which shows now.
  }
  return isOwn(directory, 0o022) ? directory : "";
}

/**
 * @param {string} directory
 * @param {number} mode permissions that it must not give
 */
function isOwn(directory, mode) {
  const status = lstatSync(directory, { throwIfNoEntry: false });
  return status?.isDirectory() === true && status.uid === uid && (status.mode & mode) === 0;
}
