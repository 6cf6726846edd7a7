// The client against servers that answer anything: whatever is said ends in an error that names it or is of no effect;
// nothing crashes, hangs or leaks.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { isRing3Error } from "../../packages/ring3/src/binary/error.ts";
import { openFilesCount } from "../../packages/ring3/src/linux/limits.ts";
import { type ConnectOptions, connect } from "../../packages/ring3/src/vfio-user/index.ts";
import { Command } from "../../packages/ring3/src/vfio-user/messages.ts";
import { type Lie, LyingServer, type Piece, type Script, versionPayload } from "../fakes/lying-server.ts";
import { frame } from "./arbitraries.ts";
import { FULL, SEED, scaled } from "./scale.ts";

const SESSIONS_PER_BATCH = 500;
const BATCHES = scaled(6, 200);
/** Several time-outs may come one behind the other. */
const SESSION_MS = 4000;
const MIB = 2 ** 20;
const GROWTH_BYTES = 96 * MIB;
const OPTIONS: ConnectOptions = { timeoutMs: 15, resetTimeoutMs: 15, removalGraceMs: 1 };

const word = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 40, 4095, 4096, 0xffff, 0x10000, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 8),
  fc.nat(80),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
);
const payload = fc.oneof(
  fc.array(word, { maxLength: 14 }).map((words) => new Uint8Array(Uint32Array.from(words).buffer)),
  fc.uint8Array({ maxLength: 80 }),
);
const memoryFiles = fc.array(fc.constantFrom(1, 4096, 8192, 0x4000), { maxLength: 3 });

/** Commands of the server, in the midst of everything: mostly DMA, of any address and size. */
const command: fc.Arbitrary<Piece> = fc
  .tuple(
    fc.constantFrom<number>(Command.DMA_READ, Command.DMA_WRITE, Command.DMA_WRITE, Command.VERSION, 99),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((address) => address >> BigInt(Number(address & 63n))),
    fc.oneof(
      fc.constantFrom(0n, 1n, 8n, 4096n, 2n ** 20n, 2n ** 32n, 2n ** 63n, 2n ** 64n - 1n),
      fc.nat(9000).map(BigInt),
    ),
    fc.nat(64),
    fc.constantFrom(0, 0, 0, 0x10),
  )
  .map(([number, address, count, data, flags]) => {
    const bytes = Buffer.alloc(16 + data);
    bytes.writeBigUInt64LE(address, 0);
    bytes.writeBigUInt64LE(count, 8);
    return { raw: frame(number, bytes, { flags }) };
  });
/** Bytes of the honest reply, at aligned places mostly, behind the header mostly. */
const change: fc.Arbitrary<Piece> = fc
  .array(
    fc.tuple(
      fc.oneof({ arbitrary: fc.nat(48), weight: 3 }, { arbitrary: fc.nat(300), weight: 1 }),
      fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)),
    ),
    { minLength: 1, maxLength: 4 },
  )
  .map((changed) => ({ changed: changed.map(([at, value]) => [at % 8 === 4 ? at + 12 : at + 16, value] as const) }));
const headerChange: fc.Arbitrary<Piece> = fc
  .tuple(fc.nat(15), fc.nat(255))
  .map(([at, value]) => ({ changed: [[at, value]] }));
const reply: fc.Arbitrary<Piece> = fc
  .record({ payload, error: word, fds: memoryFiles, flags: fc.constantFrom(1, 1, 1, 1, 0x21, 0x21, 0, 2, 0x31) })
  .map(({ flags, ...rest }) => ({ ...rest, flags }));
const greeting: fc.Arbitrary<Piece> = fc
  .tuple(
    fc.record(
      {
        max_msg_fds: fc.oneof(fc.nat(20), fc.constantFrom<unknown>(-1, 1e9, "1", null)),
        max_data_xfer_size: fc.oneof(fc.constantFrom<unknown>(0, 1, 4, 16, 4096, 1e12, null), fc.nat(5000)),
        max_dma_maps: fc.oneof(fc.nat(3), fc.constantFrom<unknown>(-1, 1e20)),
        pgsizes: fc.constantFrom<unknown>(0, 1, 4096, 8192, 2 ** 40, -4096),
        twin_socket: fc.constantFrom<unknown>({ supported: true, fd_index: 0 }, { supported: true }, 3, null),
        write_multiple: fc.constantFrom<unknown>(true, false, 1),
        posted_writes: fc.constantFrom<unknown>(true, false, 0),
      },
      { requiredKeys: [] },
    ),
    memoryFiles,
  )
  .map(([capabilities, fds]) => ({ payload: versionPayload(capabilities), fds }));

const piece: fc.Arbitrary<readonly Piece[]> = fc.oneof(
  { arbitrary: change.map((one) => [one]), weight: 12 },
  { arbitrary: headerChange.map((one) => [one]), weight: 2 },
  { arbitrary: reply.map((one) => [one]), weight: 5 },
  { arbitrary: command.map((one) => [one, "honest" as const]), weight: 6 },
  { arbitrary: fc.array(command, { maxLength: 4 }).map((many) => [...many, "honest" as const, ...many]), weight: 2 },
  { arbitrary: reply.map((one) => ["honest" as const, one]), weight: 2 },
  { arbitrary: fc.constant(["close" as const]), weight: 1 },
  { arbitrary: fc.uint8Array({ maxLength: 40 }).map((raw) => [{ raw }, "honest" as const]), weight: 1 },
  { arbitrary: fc.constant([]), weight: 0.2 * 5 },
);
const commands = Object.values(Command);
const lie: fc.Arbitrary<Lie> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      command: fc.constantFrom(...commands),
      after: fc.nat(6),
      times: fc.constantFrom(1, 1, 2, 9),
      pieces: piece,
    }),
  },
  { weight: 1, arbitrary: greeting.map((one) => ({ command: Command.VERSION, pieces: [one] })) },
);
/** What one connection hears. */
const script: fc.Arbitrary<Script> = fc.array(lie, { minLength: 1, maxLength: 4 });

/** Everything that a driver does in its first second. */
async function session(path: string): Promise<void> {
  await using fn = await connect(path, OPTIONS);
  fn.events.on("removed", () => undefined);
  const bar = fn.bar(0);
  bar.write32(0, 7);
  bar.read32(0);
  bar.write64(8, 1n);
  bar.read64(8);
  fn.busMaster = true;
  {
    using buffer = fn.dma.allocate(4096);
    buffer.bytes[0] = 1;
    bar.read32(4);
  }
  const { msix } = fn.interrupts.available;
  if (msix > 0) {
    for (const interrupt of fn.interrupts.msix(Math.min(msix, 2))) void interrupt.next().catch(() => undefined);
  }
  await fn.reset();
  bar.read32(4);
}

/** What was thrown, and what a disposal threw on the way out. */
function apart(error: unknown): unknown[] {
  return error instanceof SuppressedError ? [...apart(error.error), ...apart(error.suppressed)] : [error];
}

function show(one: Script): string {
  return JSON.stringify(one, (_, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );
}

test(`${BATCHES * SESSIONS_PER_BATCH} servers that lie (seed ${SEED})`, async (t) => {
  const codes = new Map<string, number>();
  let worstMs = 0;
  let files = 0;
  const resident: number[] = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const scripts = fc.sample(script, { numRuns: SESSIONS_PER_BATCH, seed: SEED + batch });
    {
      await using server = await LyingServer.start(...scripts);
      for (const [index, one] of scripts.entries()) {
        const where = `seed ${SEED}, batch ${batch}, session ${index}: ${show(one)}`;
        const started = performance.now();
        try {
          await session(server.path);
          codes.set("nothing", (codes.get("nothing") ?? 0) + 1);
        } catch (error) {
          for (const each of apart(error)) {
            if (!isRing3Error(each)) throw new Error(where, { cause: error });
            codes.set(each.code, (codes.get(each.code) ?? 0) + 1);
          }
        }
        const tookMs = performance.now() - started;
        worstMs = Math.max(worstMs, tookMs);
        assert.ok(tookMs < SESSION_MS, `${where}: took ${Math.round(tookMs)} ms`);
      }
      await server.heard();
    }
    const open = openFilesCount();
    // The first batch opens what stays open for good.
    if (batch === 0) files = open;
    else assert.ok(open <= files, `seed ${SEED}, batch ${batch}: ${open} descriptors are open, ${files} were before`);
    (globalThis as { gc?: () => void }).gc?.();
    resident.push(process.memoryUsage().rss);
    if (FULL && batch % 20 === 19) console.error(`${(batch + 1) * SESSIONS_PER_BATCH} sessions`);
  }
  const third = Math.floor(resident.length / 3);
  const least = (of: readonly number[]): number => Math.min(...of);
  const grown = least(resident.slice(-third)) - least(resident.slice(third, 2 * third));
  assert.ok(grown < GROWTH_BYTES, `seed ${SEED}: ${Math.round(grown / MIB)} MiB more at the end`);
  t.diagnostic(
    `worst session ${Math.round(worstMs)} ms; resident ${resident.map((bytes) => Math.round(bytes / MIB)).join(" ")} MiB; ` +
      JSON.stringify(Object.fromEntries([...codes].sort((a, b) => b[1] - a[1]))),
  );
});
