#!/usr/bin/env node
// The command `ring3`.
import { processAbortSignal } from "./interruption.ts";
import { run } from "./run.ts";

const { stdin, stdout, stderr, env } = process;
const signal = processAbortSignal();
process.exitCode = await run(process.argv.slice(2), { stdin, stdout, stderr, environment: env, signal });
