#!/usr/bin/env node
// The command `ring3`; as `ring3d` it is the service, `ring3 daemon`.
import { basename } from "node:path";
import { processAbortSignal } from "./interruption.ts";
import { run } from "./run.ts";

const surroundings = {
  // Node makes the stream when it is asked for, which takes longer than what most commands do.
  get stdin() {
    return process.stdin;
  },
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
  signal: processAbortSignal(),
};
const [, program = "", ...given] = process.argv;
const words = basename(program) === "ring3d" ? ["daemon", ...given] : given;
/** Resolves once the command has ended; the process may still have something to close. */
export const ended: Promise<void> = run(words, surroundings).then((status) => {
  process.exitCode = status;
});
