import assert from "node:assert/strict";
import test from "node:test";
import { FakeMachine } from "../../../ring3/src/host/fake-machine.ts";
import { captured } from "../captured-run.ts";
import { command } from "../command.ts";
import { Context } from "../context.ts";
import { parseCommand } from "../parse.ts";
import { NO_SETTINGS } from "./no-settings.ts";
import { SERVER_OPTIONS, type ServerSettings, serverSettings, socketPath } from "./server-options.ts";

/** The settings that `words` give on a machine that knows root, alice (1000) and the group vfio (36). */
async function settings(...words: string[]): Promise<ServerSettings> {
  using machine = new FakeMachine([]);
  const declared = command({
    summary: "x",
    operands: [],
    options: SERVER_OPTIONS,
    examples: [],
    run: async () => undefined,
  });
  const { input } = parseCommand(declared, words);
  const streams = { stdin: process.stdin, stdout: process.stdout, stderr: process.stderr };
  const surroundings = { ...streams, environment: {}, signal: new AbortController().signal };
  const context = new Context(surroundings, { json: false, quiet: true, root: machine.root });
  return await serverSettings(input.options as unknown as Parameters<typeof serverSettings>[0], context);
}

test("users and groups by name and number, modes in octal", async () => {
  const given = await settings(
    "--mode",
    "0660",
    "--owner",
    "alice:vfio",
    "--allow-uid",
    "alice,0",
    "--allow-uid",
    "1000,77",
  );
  assert.equal(given.mode, 0o660);
  assert.deepEqual(given.owner, { uid: 1000, gid: 36 });
  assert.deepEqual(given.allowUids, [1000, 0, 77]);
  assert.deepEqual((await settings("--owner", "alice")).owner, { uid: 1000, gid: 1000 });
  assert.deepEqual((await settings("--owner", "5:6", "--mode", "777")).owner, { uid: 5, gid: 6 });
});

test("what is not given is left to the library", async () => {
  assert.deepEqual(await settings(), NO_SETTINGS);
});

test("how many may have it, and how many may wait", async () => {
  const { openings, queue } = await settings("--openings", "3", "--queue", "20");
  assert.deepEqual([openings, queue], [3, 20]);
  await assert.rejects(settings("--openings", "0"), /--openings.*1/);
  await assert.rejects(settings("--queue=-1"), /--queue.*0/);
  await assert.rejects(settings("--queue", "many"), /--queue/);
});

test("mistakes are usage errors that show the right form", async () => {
  await assert.rejects(settings("--mode", "rw"), /three octal digits, as in 0660/);
  await assert.rejects(settings("--mode", "0999"), /octal/);
  await assert.rejects(settings("--owner", ":vfio"), /USER:GROUP/);
  await assert.rejects(settings("--owner", "alice:nobodies"), /GROUP_UNKNOWN.*nobodies/);
  await assert.rejects(settings("--owner", "mallory"), /USER_UNKNOWN/);
  await assert.rejects(settings("--allow-uid", "alice,"), /separated by commas/);
  await assert.rejects(settings("--log-messages"), /--log/);
  assert.throws(() => socketPath(undefined), /--socket is missing/);
  const { status, stderr } = await captured(["serve", "edu"]);
  assert.equal(status, 2);
  assert.match(stderr, /--socket is missing: .*--socket \//);
});
