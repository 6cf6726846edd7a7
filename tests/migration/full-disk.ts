// A process with a full disk of its own: serves a device with its state there, and prints what happened. Its parent gave it
// a mount namespace; the folder is its argument.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { FakeClient } from "../../packages/ring3/src/vfio-user/fake-client.ts";
import { ServedTestDevice } from "../../packages/ring3/src/vfio-user/fake-served.ts";
import { Command, RegionAccess } from "../../packages/ring3/src/vfio-user/messages.ts";
import { type FunctionServer, serve } from "../../packages/ring3/src/vfio-user/server.ts";
import { StateFile } from "../../packages/ring3/src/vfio-user/server-state.ts";

const folder = process.argv[2] as string;
const [path, state, filler] = ["fn.sock", "state", "filler"].map((name) => join(folder, name)) as [
  string,
  string,
  string,
];
const complaints: string[] = [];

function start(): Promise<FunctionServer> {
  return serve(new ServedTestDevice(), path, {
    state,
    onEvent: (event) => event.type === "error" && complaints.push(event.description),
  });
}

function fillUp(): void {
  const piece = new Uint8Array(4096).fill(1);
  try {
    for (;;) writeFileSync(filler, piece, { flag: "a" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
}

async function write(client: FakeClient, value: number): Promise<number> {
  const access = RegionAccess.bytes({ offset: 8n, region: 0, count: 4 });
  return await client.errno(
    Command.REGION_WRITE,
    Uint8Array.of(...access, ...new Uint8Array(Uint32Array.of(value).buffer)),
  );
}

function kept(): number | undefined {
  using file = new StateFile(state);
  const bytes = file.load();
  using device = new ServedTestDevice();
  if (bytes !== undefined) device.restore(bytes);
  return bytes && device.words[2];
}

fillUp();
const refused = await start().catch((error: unknown) => (isRing3Error(error) ? [error.code, error.errno] : error));
rmSync(filler);
const server = await start();
const client = await FakeClient.open(path);
const told: unknown[] = [];
await write(client, 1);
fillUp();
// The slot that is written next has no block yet, or has one: both ways nothing that is whole is lost.
for (let i = 2; i < 6; i++) told.push([await write(client, i), (kept() ?? 0) >= 1]);
rmSync(filler);
await write(client, 7);
told.push(kept());
client[Symbol.dispose]();
await server.close();
console.log(JSON.stringify({ refused, told, complaints }));
