import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { plainAccessors } from "./accessors.ts";
import { Arena } from "./arena.ts";
import { type Emitted, emit, emitted } from "./emitter.ts";
import { encodeModule } from "./module-encoding.ts";

const arena = Arena.create({ initialBytes: 2 ** 20 });
const range = arena.reserve(4096);
const at = range.offset;
const word = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  fc.constantFrom(0, 1, 63, 64, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1),
);

describe("arithmetic is that of unsigned integers", () => {
  const operators = [
    "add",
    "sub",
    "mul",
    "and",
    "or",
    "xor",
    "shl",
    "shr",
    "eq",
    "ne",
    "lt",
    "gt",
    "le",
    "ge",
  ] as const;
  const reference = (operator: (typeof operators)[number], a: bigint, b: bigint, width: number): bigint => {
    const shift = b % BigInt(width);
    const results = {
      add: a + b,
      sub: a - b,
      mul: a * b,
      and: a & b,
      or: a | b,
      xor: a ^ b,
      shl: a << shift,
      shr: a >> shift,
      eq: BigInt(a === b),
      ne: BigInt(a !== b),
      lt: BigInt(a < b),
      gt: BigInt(a > b),
      le: BigInt(a <= b),
      ge: BigInt(a >= b),
    };
    return BigInt.asUintN(width, results[operator]);
  };

  for (const operator of operators) {
    test(operator, () => {
      const { narrow, wide } = emit(arena, {
        narrow: emitted(["a", "b"], {}, (_, { a, b }) => a[operator](b)),
        wide: emitted(["aLow", "aHigh", "bLow", "bHigh"], {}, (_, { aLow, aHigh, bLow, bHigh }) => {
          const a = aLow.wide().or(aHigh.wide().shl(32));
          const b = bLow.wide().or(bHigh.wide().shl(32));
          return a[operator](b).wide();
        }),
      });
      fc.assert(
        fc.property(word, word, word, word, (a, b, c, d) => {
          assert.equal(BigInt(narrow(a, b) >>> 0), reference(operator, BigInt(a), BigInt(b), 32));
          const left = BigInt(a) | (BigInt(b) << 32n);
          const right = BigInt(c) | (BigInt(d) << 32n);
          assert.equal(BigInt.asUintN(64, wide(a, b, c, d)), reference(operator, left, right, 64));
          const { baked } = emit(arena, { baked: emitted(["a"], {}, (_, locals) => locals.a[operator](b)) });
          assert.equal(baked(a), narrow(a, b));
        }),
        { numRuns: 60 },
      );
    });
  }

  test("not, low, constants of 64 bits", () => {
    const { not, low, constant } = emit(arena, {
      not: emitted(["a"], {}, (_, { a }) => a.not()),
      low: emitted(["a"], {}, (_, { a }) => a.wide().shl(32).or(a.wide()).low()),
      constant: emitted(["a"], {}, (_, { a }) => a.wide().add(2 ** 53 - 1)),
    });
    assert.deepEqual([not(0), not(5), low(77), constant(1)], [1, 0, 77, 2n ** 53n]);
  });
});

test("copies may overlap, and what is published is stored whole", () => {
  const { copy, publish, publish16 } = emit(arena, {
    copy: emitted(["to", "from", "size"], {}, (body, { to, from, size }) => body.copy(to, from, size)),
    publish: emitted(["address", "value"], {}, (body, { address, value }) => body.publish32(address, value, 8)),
    publish16: emitted(["address", "value"], {}, (body, { address, value }) => body.publish16(address, value, 2)),
  });
  const { bytes } = range;
  fc.assert(
    fc.property(fc.nat(64), fc.nat(64), fc.nat(64), (to, from, size) => {
      for (let i = 0; i < 128; i++) bytes[i] = i;
      const expected = bytes.slice(0, 128).copyWithin(to, from, from + size);
      copy(at + to, at + from, size);
      assert.deepEqual(bytes.slice(0, 128), expected);
    }),
  );
  bytes.fill(0xff, 0, 16);
  publish(at, 0x8765_4321);
  assert.deepEqual([...arena.words(at, 4)], [0xffff_ffff, 0xffff_ffff, 0x8765_4321, 0xffff_ffff]);
  assert.throws(() => publish(at + 2, 1), /unaligned/);
  publish16(at, 0x1_4321);
  assert.deepEqual([...arena.words(at, 2)], [0x4321_ffff, 0xffff_ffff]);
  assert.throws(() => publish16(at + 1, 1), /unaligned/);
  bytes.fill(0);
});

test("loads and stores of every width agree with the plain reference", () => {
  const plain = plainAccessors(arena);
  const { store } = emit(arena, {
    store: emitted(["address", "low", "high"], {}, (body, { address, low, high }) => {
      body.store64(address, low.wide().or(high.wide().shl(32)));
      body.store32(address, low, 8);
      body.store16(address, high, 12);
      body.store8(address, high, 14);
    }),
  });
  fc.assert(
    fc.property(fc.nat(100), word, word, (index, low, high) => {
      const address = at + 16 * index;
      assert.equal(store(address, low, high), undefined);
      assert.equal(arena.longwords(address, 1)[0], BigInt(low) | (BigInt(high) << 32n));
      assert.deepEqual([...arena.words(address + 8, 1)], [low]);
      assert.deepEqual([...arena.halfwords(address + 12, 1)], [high & 0xffff]);
      assert.deepEqual([...arena.bytes(address + 14, 2)], [high & 0xff, 0]);
      for (const [load, step] of [
        ["load8", 1],
        ["load16", 2],
        ["load32", 4],
      ] as const) {
        for (let offset = 0; offset < 16; offset += step) {
          assert.equal(arena.accessors[load](address + offset), plain[load](address + offset));
        }
      }
      assert.equal(BigInt.asUintN(64, arena.accessors.load64(address)), plain.load64(address));
    }),
  );
});

test("a loop with branches agrees with its TypeScript reference", () => {
  const DONE = 0x8000_0000;
  /** Sums descriptors of 16 bytes until one is not done, a limit, or a value that ends it; marks each as seen. */
  const { reap } = emit(arena, {
    reap: emitted(
      ["ring", "budget"],
      { count: "i32", status: "i32", total: "i64" },
      (body, { ring, budget, count, status, total }) => {
        body.loop((loop) => {
          body.leave(loop, count.ge(budget));
          body.set(status, body.load32(ring, 12));
          body.leave(loop, status.and(DONE).eq(0));
          body.if(
            status.and(0xff).eq(7),
            () => body.set(total, total.add(1000)),
            () => {
              body.if(status.and(0xff).eq(9), () => body.leave(loop));
              body.set(total, total.add(body.load64(ring)));
            },
          );
          body.store32(ring, 0, 12);
          body.fence();
          body.set(ring, ring.add(16));
          body.set(count, count.add(1));
          body.again(loop, count.lt(200));
          body.leave(loop);
        });
        body.store64(at + 4088, total);
        return count;
      },
    ),
  });
  const reference = (words: Uint32Array, budget: number): [number, bigint] => {
    let total = 0n;
    let count = 0;
    for (; count < budget; count++) {
      const status = words[count * 4 + 3] ?? 0;
      if ((status & DONE) === 0 || (status & 0xff) === 9) break;
      const value = BigInt(words[count * 4] ?? 0) | (BigInt(words[count * 4 + 1] ?? 0) << 32n);
      total += (status & 0xff) === 7 ? 1000n : value;
      words[count * 4 + 3] = 0;
    }
    return [count, BigInt.asUintN(64, total)];
  };
  const status = fc.tuple(fc.constantFrom(DONE, DONE, DONE, 0), fc.constantFrom(0, 7, 9, 8, 1));
  const descriptor = fc.tuple(
    word,
    word,
    word,
    status.map(([done, kind]) => (done | kind) >>> 0),
  );
  fc.assert(
    fc.property(
      fc.array(descriptor, { minLength: 20, maxLength: 20 }),
      fc.integer({ min: 0, max: 20 }),
      (ring, budget) => {
        const ours = range.words.subarray(0, 80);
        ours.set(ring.flat());
        const theirs = Uint32Array.from(ours);
        const [count, total] = reference(theirs, budget);
        assert.equal(reap(at, budget), count);
        assert.equal(arena.longwords(at + 4088, 1)[0], total);
        assert.deepEqual(ours, theirs.subarray());
      },
    ),
  );
});

test("emitted code reads memory by atomic loads only, once per load that is written", () => {
  const everything = {
    all: emitted(["a"], { wide: "i64" }, (body, { a, wide }) => {
      body.set(a, body.load8(a).add(body.load16(a)).add(body.load32(a, 300)));
      body.set(wide, body.load64(70_000));
      body.store8(a, 1);
      body.store16(a, 1);
      body.store32(a, 0x3a36_2928);
      body.store64(a, wide);
      body.loop((loop) => body.leave(loop, a.not()));
      body.if(a.ne(1), () => body.fence());
    }),
  };
  const { all } = everything;
  assert.deepEqual(accesses(all.code), {
    "atomic load": 4,
    "plain load": 0,
    "plain store": 4,
    "atomic store or modification": 0,
    fence: 1,
  });
  // The arena's own accessors, as they are compiled.
  assert.equal(WebAssemblyGlobal.validate(encodeModule(everything)), true);
});

test("misuse is refused: a load used twice or never, a branch out of place, a constant that does not fit", () => {
  const misuse = { code: "EMITTER_MISUSE" };
  assert.throws(() => emitted([], {}, (body) => void body.load32(at)), misuse);
  assert.throws(() => emitted(["a"], {}, (body, { a }) => void body.load32(at).add(a)), misuse);
  assert.throws(
    () =>
      emitted(["a"], {}, (body, { a }) => {
        const loaded = body.load32(at);
        body.set(a, loaded.add(loaded));
      }),
    misuse,
  );
  assert.throws(
    () =>
      emitted(["a"], {}, (body, { a }) => {
        const sum = body.load32(at).add(1);
        body.set(a, sum);
        return sum;
      }),
    misuse,
  );
  assert.throws(
    () =>
      emitted([], {}, (body) => {
        let outer: { depth: number } | undefined;
        body.loop((loop) => {
          outer = loop;
          body.leave(loop);
        });
        if (outer !== undefined) body.again(outer);
      }),
    misuse,
  );
  for (const value of [2 ** 32, -(2 ** 31) - 1, 1.5]) {
    assert.throws(() => emitted(["a"], {}, (_, { a }) => a.add(value)), misuse);
  }
  assert.throws(() => emit(Arena.over(new ArrayBuffer(65536)), {}), { code: "NOT_SUPPORTED" });
});

test("emitted loops address memory that the arena grew by", () => {
  const small = Arena.create({ initialBytes: 65536, growthBytes: 65536 });
  const { load } = emit(small, { load: emitted(["address"], {}, (body, { address }) => body.load32(address)) });
  const late = small.reserve(2 ** 20);
  late.words[1000] = 5;
  assert.equal(load(late.offset + 4000), 5);
});

const WebAssemblyGlobal = (globalThis as never as { WebAssembly: { validate(code: Uint8Array): boolean } }).WebAssembly;

/** Counts the memory instructions of a function body by walking its instructions. */
function accesses(code: Emitted<unknown>["code"]): Record<string, number> {
  const counts = { "atomic load": 0, "plain load": 0, "plain store": 0, "atomic store or modification": 0, fence: 0 };
  let i = 0;
  const leb = (): void => {
    while (((code[i++] ?? 0) & 0x80) !== 0);
  };
  while (i < code.length) {
    const opcode = code[i++] ?? 0;
    if (opcode === 0xfe) {
      const atomic = code[i++] ?? 0;
      if (atomic === 0x03) {
        counts.fence++;
        i++;
        continue;
      }
      counts[atomic >= 0x10 && atomic <= 0x16 ? "atomic load" : "atomic store or modification"]++;
      leb();
      leb();
    } else if (opcode >= 0x28 && opcode <= 0x3e) {
      counts[opcode <= 0x35 ? "plain load" : "plain store"]++;
      leb();
      leb();
    } else if (opcode === 0x02 || opcode === 0x03 || opcode === 0x04) i++;
    else if (
      (opcode >= 0x20 && opcode <= 0x22) ||
      opcode === 0x41 ||
      opcode === 0x42 ||
      opcode === 0x0c ||
      opcode === 0x0d
    )
      leb();
    else assert.ok(opcode === 0x05 || opcode === 0x0b || (opcode >= 0x45 && opcode <= 0xad), `opcode ${opcode}`);
  }
  return counts;
}
