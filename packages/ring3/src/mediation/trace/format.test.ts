// Traces as text: what is written is read again, whatever it is, and what is no trace is refused with the line.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytesConfigAccess } from "../../pci/config-space.ts";
import { nvmeRegisters } from "../../specs/nvme/register-map.ts";
import { AccessDecoder } from "./decoder.ts";
import type { AccessEvent, DecodedValue, TraceEvent } from "./event.ts";
import { traceFilter } from "./filter.ts";
import { encodeTrace, parseTrace } from "./json-lines.ts";
import { PcapngSink } from "./pcapng.ts";
import { TraceSummary } from "./statistics.ts";

const header = { trace: 1, started: "2026-11-29T00:00:00.000Z" };
const common = { t: fc.nat(), fn: fc.nat(7) };
const bytes = fc.uint8Array({ maxLength: 40 });
const kind = fc.constantFrom("intx", "msi", "msix");
const iova = fc.nat({ max: 2 ** 48 });

const access = fc.constantFrom(1, 2, 4).chain((width) =>
  fc.record(
    {
      ...common,
      user: fc.string(),
      type: fc.constant("bar"),
      op: fc.constantFrom("read", "write"),
      bar: fc.nat(5),
      offset: fc.nat({ max: 2 ** 40 }),
      width: fc.constant(width),
      value: fc.nat(2 ** (8 * width) - 1),
      decoded: fc.record({ register: fc.string(), fields: fc.dictionary(fc.string(), fc.nat()) }),
      took: fc.nat(),
      error: fc.string(),
    },
    { requiredKeys: ["t", "fn", "type", "op", "bar", "offset", "width", "took"] },
  ),
);
const event = fc.oneof(
  access,
  fc.record({
    ...common,
    type: fc.constant("config"),
    op: fc.constant("read"),
    offset: fc.nat(4095),
    width: fc.constant(0),
    bytes,
    took: fc.nat(),
  }),
  fc.record({ ...common, type: fc.constant("interrupt"), kind, vector: fc.nat(2047), count: fc.nat() }),
  fc.record({ ...common, type: fc.constant("interrupts"), kind, first: fc.nat(2047), count: fc.nat(2047) }),
  fc.record({
    ...common,
    type: fc.constant("map"),
    map: fc.nat(),
    iova,
    size: fc.nat(),
    permission: fc.constantFrom("read-write", "read", "write"),
  }),
  fc.record({
    ...common,
    type: fc.constant("memory"),
    by: fc.constantFrom("driver", "device"),
    map: fc.nat(),
    offset: fc.nat(),
    bytes,
  }),
  fc.record({
    ...common,
    type: fc.constant("event"),
    name: fc.string(),
    detail: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.nat())),
  }),
  fc.record({ ...common, type: fc.constant("close"), reason: fc.string() }),
) as fc.Arbitrary<TraceEvent>;

test("what is written is read again", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 8 }), (events) => {
      const text = encodeTrace({ header, events });
      assert.deepEqual(JSON.parse(JSON.stringify(text)), text);
      // Null prototypes come from fast-check.
      const plain = structuredClone(events);
      assert.deepEqual(structuredClone(parseTrace(text).events), plain);
      assert.equal(encodeTrace(parseTrace(text)), text);
    }),
    { numRuns: 200 },
  );
});

test("whatever is read, nothing but TRACE_INVALID and TRACE_VERSION is thrown", () => {
  const mutated = fc.tuple(fc.array(event, { minLength: 1, maxLength: 3 }), fc.nat(), fc.string({ maxLength: 3 }));
  fc.assert(
    fc.property(mutated, ([events, at, text]) => {
      const whole = encodeTrace({ header, events });
      const place = at % whole.length;
      try {
        parseTrace(whole.slice(0, place) + text + whole.slice(place + text.length));
      } catch (error) {
        assert.match(String((error as { code?: unknown }).code), /^TRACE_(INVALID|VERSION)$/);
      }
    }),
    { numRuns: 500 },
  );
});

test("the message says which line and what is wrong with it", () => {
  const text = encodeTrace({ header, events: [] });
  const line = (json: string): string => `${text}${json}\n`;
  assert.throws(() => parseTrace("hello\n"), { code: "TRACE_INVALID", message: /no trace of ring3/ });
  assert.throws(() => parseTrace(text.replace('"trace":1', '"trace":9')), {
    code: "TRACE_VERSION",
    message: /version 9/,
  });
  const access = '"type":"bar","op":"read","bar":0,"offset":"0x10","width":4,"took":1';
  assert.throws(() => parseTrace(line(`{"t":1,"fn":0,${access},"value":"0x123456789"}`)), {
    message: /TRACE_INVALID: line 2 has "value", which is not hexadecimal of 4 bytes: "0x123456789"/,
  });
  assert.throws(() => parseTrace(line(`{"t":1,"fn":0,"type":"dance"}`)), {
    message: /line 2 has the unknown type "dance"/,
  });
  assert.throws(() => parseTrace(line("[]")), { message: /line 2 is no JSON object/ });
  // A process that was killed leaves half a line at the end.
  assert.equal(parseTrace(`${line(`{"t":1,"fn":0,${access}}`)}{"t":2,"fn`).events.length, 1);
});

const shown = (decoded: DecodedValue | undefined): unknown => ({
  register: decoded?.register,
  fields: decoded?.fields,
});

test("registers and fields by map: whole, in part, and two at once", () => {
  const decoder = new AccessDecoder(new Uint8Array(256), nvmeRegisters());
  assert.deepEqual(shown(decoder.bar(0, 0x1c, 4, 9)), { register: "CSTS", fields: { RDY: 1, SHST: 2 } });
  assert.deepEqual(shown(decoder.bar(0, 0x16, 2, 0x46)), { register: "CC[2]", fields: { IOSQES: 6, IOCQES: 4 } });
  assert.deepEqual(shown(decoder.bar(0, 0x00, 8, 0x0000_0020_0800_0fffn)), {
    register: "CAP_LOW+CAP_HIGH",
    fields: { MQES: 0xfff, TO: 8, CSS_NVM: 1 },
  });
  assert.equal(decoder.bar(0, 0x100c, 4, 1)?.register, "CQ1HDBL");
  assert.equal(decoder.bar(0, 0xff0, 4, 1), undefined);
  assert.equal(decoder.bar(2, 0, 4, 1), undefined);
});

test("config registers by header and by capability, wherever it lies", () => {
  const bytes = new Uint8Array(256);
  const access = bytesConfigAccess(bytes);
  access.write(0, 4, 0x1234_5678);
  access.write(6, 2, 0x10);
  access.write(0x34, 1, 0x80);
  access.write(0x80, 2, 0x0001);
  const decoder = new AccessDecoder(bytes, undefined);
  assert.deepEqual(shown(decoder.config(0x84, 2, 0x8103)), {
    register: "PM.PMCSR",
    fields: { POWER_STATE: 3, PME_ENABLE: 1, PME_STATUS: 1 },
  });
  assert.deepEqual(decoder.config(4, 4, 0x0010_0406)?.register, "COMMAND+STATUS");
  assert.equal(decoder.config(0x3c, 1, 5)?.register, "INTERRUPT_LINE");
  assert.equal(decoder.config(0xf0, 1, 5), undefined);
});

const read = (offset: number, extra: Partial<AccessEvent> = {}): AccessEvent => ({
  t: 0,
  fn: 0,
  type: "bar",
  op: "read",
  bar: 0,
  offset,
  width: 4,
  value: 0,
  took: 100,
  ...extra,
});

test("filters by type, BAR, register, range and direction", () => {
  const csts = read(0x1c, { decoded: { register: "CSTS", fields: {} } });
  const doorbell = read(0x1008, { op: "write", bar: 2, decoded: { register: "SQ1TDBL", fields: {} } });
  const signal: TraceEvent = { t: 0, fn: 0, type: "interrupt", kind: "msix", vector: 0, count: 1 };
  const all = [csts, doorbell, signal];
  const passing = (filter: Parameters<typeof traceFilter>[0]): TraceEvent[] => all.filter(traceFilter(filter));
  assert.deepEqual(passing({}), all);
  assert.deepEqual(passing({ types: ["interrupt"] }), [signal]);
  assert.deepEqual(passing({ bars: [2] }), [doorbell]);
  assert.deepEqual(passing({ registers: ["sq*tdbl"] }), [doorbell]);
  assert.deepEqual(passing({ registers: ["CST"] }), []);
  assert.deepEqual(passing({ ranges: [{ offset: 0x1f, size: 1 }] }), [csts]);
  assert.deepEqual(passing({ op: "write" }), [doorbell]);
  assert.throws(() => traceFilter({ types: ["bars"] }), { code: "TRACE_FILTER" });
});

test("a summary counts by register, with latencies and the intervals of interrupts", () => {
  const summary = new TraceSummary();
  const csts = { decoded: { register: "CSTS", fields: {} } };
  for (const took of [300, 100, 200]) summary.add(read(0x1c, { ...csts, took }));
  summary.add(read(0x1c, { ...csts, op: "write", error: "REGION_DISABLED" }));
  summary.add(read(0x2fff0, { width: 1 }));
  for (const t of [1000, 3000, 9000]) summary.add({ t, fn: 0, type: "interrupt", kind: "msix", vector: 1, count: 2 });
  const { registers, interrupts, types, spanNs } = summary.statistics();
  assert.deepEqual([types, spanNs], [{ bar: 5, interrupt: 3 }, 9000]);
  assert.deepEqual(registers[0]?.took, { count: 4, minimum: 100, median: 200, p99: 300, maximum: 300 });
  assert.deepEqual([registers[0]?.reads, registers[0]?.writes, registers[0]?.errors], [3, 1, 1]);
  assert.deepEqual([registers[1]?.offset, registers[1]?.register], [0x2ff00, undefined]);
  assert.equal(interrupts[0]?.signals, 6);
  assert.deepEqual(interrupts[0]?.interval, { count: 2, minimum: 2000, median: 6000, p99: 6000, maximum: 6000 });
});

test("a register map with names that JSON cannot hold as they are is refused", () => {
  const registers = { name: "odd", bars: { 0: [{ name: 'a"b', offset: 0, width: 4 }] } } as const;
  assert.throws(() => new AccessDecoder(new Uint8Array(256), registers), { code: "REGISTER_MAP_INVALID" });
});

test("a capture has a section, an interface of the link type USER0 in nanoseconds, and a block for each event", () => {
  const blocks: Uint8Array[] = [];
  const sink = new PcapngSink(header, (bytes) => void blocks.push(bytes));
  sink.write(read(0x1c, { t: 5, value: 1, decoded: { register: "CSTS", fields: { RDY: 1 } } }));
  const view = (index: number): DataView => {
    const block = blocks[index] ?? new Uint8Array();
    return new DataView(block.buffer, block.byteOffset, block.byteLength);
  };
  assert.deepEqual(
    [0, 1, 2].map((i) => view(i).getUint32(0, true)),
    [0x0a0d0d0a, 1, 6],
  );
  for (const [i, block] of blocks.entries()) {
    assert.equal(block.length % 4, 0);
    assert.equal(view(i).getUint32(4, true), block.length);
    assert.equal(view(i).getUint32(block.length - 4, true), block.length);
  }
  assert.equal(view(0).getUint32(8, true), 0x1a2b3c4d);
  assert.equal(view(1).getUint16(8, true), 147);
  const timeNs = (BigInt(view(2).getUint32(12, true)) << 32n) | BigInt(view(2).getUint32(16, true));
  assert.equal(timeNs, BigInt(Date.parse(header.started)) * 1_000_000n + 5n);
  // The record: version, type "bar", read, BAR 0; offset, width and value.
  const record = 28;
  assert.deepEqual(
    [0, 1, 2, 3].map((at) => view(2).getUint8(record + at)),
    [1, 2, 0, 0],
  );
  assert.equal(view(2).getBigUint64(record + 8, true), 0x1cn);
  assert.equal(view(2).getUint32(record + 16, true), 4);
  assert.equal(view(2).getBigUint64(record + 24, true), 1n);
  assert.match(new TextDecoder().decode(blocks[2]), /CSTS.*RDY: 0x1.*read {2}bar0 CSTS = 0x00000001/s);
});
