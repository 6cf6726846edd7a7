// Any order in which several clients come, map, connect interrupts, reset and leave, against a model of who has what.
// seconds: 3
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createMemoryFile, EventFd } from "../linux/index.ts";
import { FakeClient, until, versionPayload } from "./fake-client.ts";
import { openDescriptors, type Served, serveTestDevice } from "./fake-served.ts";
import { Command, DmaMap, DmaUnmap, IrqSet, RegionAccess, WireErrno } from "./messages.ts";

const CLIENTS = 4;
const OPENINGS = 3;
const PAGES = 12;
const VECTORS = 6;
const PAGE = 0x1000;
const { EBUSY, EEXIST, ENOENT, EINVAL } = WireErrno;

interface Step {
  readonly who: number;
  readonly what: "open" | "leave" | "map" | "unmap" | "unmapAll" | "set" | "unset" | "disable" | "write" | "reset";
  readonly at: number;
  readonly size: number;
  readonly file: boolean;
}

const step: fc.Arbitrary<Step> = fc.record({
  who: fc.nat(CLIENTS - 1),
  what: fc.constantFrom(
    ...(["open", "open", "open", "leave", "map", "map", "map", "unmap", "unmapAll"] as const),
    ...(["set", "set", "set", "unset", "disable", "write", "reset"] as const),
  ),
  at: fc.nat(PAGES - 1),
  size: fc.integer({ min: 1, max: 4 }),
  file: fc.boolean(),
});

/** One client, with the eventfd that it sets for any vector. */
interface Client {
  readonly fake: FakeClient;
  readonly event: EventFd;
}

/** What there should be. */
class Model {
  /** Maps by their first page. */
  maps = new Map<number, { readonly size: number; readonly who: number }>();
  /** Who has each vector's signal. */
  vectors: (number | undefined)[] = Array.from({ length: VECTORS });
  word = 0;
  /** Whether config space has MSI-X on. */
  on = false;

  get connected(): boolean {
    return this.vectors.some((owner) => owner !== undefined);
  }

  touched(at: number, size: number): [at: number, map: { readonly size: number; readonly who: number }][] {
    return [...this.maps].filter(([start, map]) => start < at + size && start + map.size > at);
  }

  leave(who: number, last: boolean): void {
    for (const [start, map] of [...this.maps]) if (map.who === who) this.maps.delete(start);
    const had = this.vectors.includes(who);
    this.vectors = this.vectors.map((owner) => (owner === who ? undefined : owner));
    if (last || (had && !this.connected)) this.on = false;
    if (last) this.word = 0;
  }
}

class Scene {
  readonly served: Served;
  readonly model = new Model();
  readonly clients = new Map<number, Client>();

  constructor(served: Served) {
    this.served = served;
  }

  async do({ who, what, at, size, file }: Step): Promise<void> {
    const client = this.clients.get(who);
    if (what === "open") {
      if (client === undefined) await this.#open(who);
      return;
    }
    if (client === undefined) return;
    const { fake, event } = client;
    const { model } = this;
    const last = this.clients.size === 1;
    const irqs = (flags: number, start: number, count: number, fds: readonly EventFd[] = []): Promise<number> =>
      fake.errno(Command.DEVICE_SET_IRQS, IrqSet.bytes({ argsz: 20, flags, index: 2, start, count }), {
        fds: fds.map(({ fd }) => fd),
      });
    const count = Math.min(size, VECTORS - (at % VECTORS));
    const vectors = Array.from({ length: count }, (_, i) => (at % VECTORS) + i);
    if (what === "leave") await this.#leave(who);
    else if (what === "map") {
      const expected = model.touched(at, size).length > 0 ? EEXIST : 0;
      assert.equal(await this.#map(fake, at, size, file), expected);
      if (expected === 0) model.maps.set(at, { size, who });
    } else if (what === "unmap") {
      const own = model.touched(at, size).filter(([, map]) => map.who === who);
      const cut = own.some(([start, map]) => start < at || start + map.size > at + size);
      const range = { address: BigInt(at * PAGE), size: BigInt(size * PAGE) };
      const errno = await fake.errno(Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, ...range }));
      assert.equal(errno, cut ? EINVAL : own.length === 0 ? ENOENT : 0);
      if (!cut) for (const [start] of own) model.maps.delete(start);
    } else if (what === "unmapAll") {
      assert.equal(await fake.errno(Command.DMA_UNMAP, DmaUnmap.bytes({ argsz: 24, flags: 2 })), 0);
      for (const [start, map] of [...model.maps]) if (map.who === who) model.maps.delete(start);
    } else if (what === "set") {
      assert.equal(
        await irqs(
          0x24,
          at % VECTORS,
          count,
          vectors.map(() => event),
        ),
        0,
      );
      for (const vector of vectors) model.vectors[vector] = who;
      model.on = true;
    } else if (what === "unset") {
      assert.equal(await irqs(0x24, at % VECTORS, count), 0);
      for (const vector of vectors) if (last || model.vectors[vector] === who) model.vectors[vector] = undefined;
    } else if (what === "disable") {
      assert.equal(await irqs(0x21, 0, 0), 0);
      model.vectors = model.vectors.map((owner) => (last || owner === who ? undefined : owner));
      if (!model.connected) model.on = false;
    } else if (what === "write") {
      assert.equal(await fake.errno(Command.REGION_WRITE, registerWrite(at + 1)), 0);
      model.word = at + 1;
    } else {
      assert.equal(await fake.errno(Command.DEVICE_RESET), 0);
      model.vectors = model.vectors.map(() => undefined);
      model.on = false;
      model.word = 0;
    }
  }

  async check(): Promise<void> {
    const { device, server } = this.served;
    const { model, clients } = this;
    assert.equal(server.clients.length, clients.size);
    assert.equal(device.connectedTo !== undefined, clients.size > 0);
    const maps = [...model.maps]
      .map(([start, { size }]) => [start * PAGE, size * PAGE])
      .sort(([a = 0], [b = 0]) => a - b);
    assert.deepEqual(
      device.memory.maps().map(({ iova, size }) => [iova, size]),
      maps,
    );
    const [first] = clients.values();
    if (first !== undefined) {
      const request = RegionAccess.bytes({ offset: 8n, region: 0, count: 4 });
      const { payload } = await first.fake.request(Command.REGION_READ, request);
      assert.equal(new DataView(payload.buffer).getUint32(16, true), model.word);
    } else assert.equal(device.words[2], 0);
    // Whoever is the first of several has no say in it.
    device.config.write(4, 2, 6);
    assert.equal(device.interrupts.mode === "msix", model.on);
    for (const [vector, owner] of model.vectors.entries()) {
      assert.equal(device.interrupts.connected("msix", vector), owner !== undefined);
      if (owner === undefined) continue;
      device.interrupts.raise(vector);
      const counts = [...clients].map(([who, { event }]) => [who, event.read()]);
      assert.deepEqual(
        counts,
        [...clients.keys()].map((who) => [who, who === owner ? 1 : 0]),
      );
    }
  }

  async end(): Promise<void> {
    for (const who of [...this.clients.keys()]) await this.#leave(who);
  }

  async #open(who: number): Promise<void> {
    const { clients, served } = this;
    const fake = FakeClient.connect(served.path);
    const full = clients.size === OPENINGS;
    const errno = await fake.errno(Command.VERSION, versionPayload({ max_msg_fds: 16 }));
    assert.equal(errno, full ? EBUSY : 0);
    if (full) fake[Symbol.dispose]();
    else clients.set(who, { fake, event: new EventFd() });
  }

  async #leave(who: number): Promise<void> {
    const { clients, served, model } = this;
    const { fake, event } = clients.get(who) as Client;
    clients.delete(who);
    fake[Symbol.dispose]();
    event[Symbol.dispose]();
    await until(() => served.server.clients.length === clients.size, "it has left");
    model.leave(who, clients.size === 0);
  }

  async #map(fake: FakeClient, at: number, size: number, file: boolean): Promise<number> {
    const memory = file ? createMemoryFile(size * PAGE) : undefined;
    const range = { address: BigInt(at * PAGE), size: BigInt(size * PAGE) };
    const payload = DmaMap.bytes({ argsz: 32, flags: 3, ...range });
    const errno = await fake.errno(Command.DMA_MAP, payload, memory === undefined ? {} : { fds: [memory] });
    memory?.close();
    return errno;
  }
}

function registerWrite(value: number): Uint8Array {
  const head = RegionAccess.bytes({ offset: 8n, region: 0, count: 4 });
  return Uint8Array.of(...head, ...new Uint8Array(Uint32Array.of(value).buffer));
}

test("any clients in any order: everybody has what is its own, and nobody anything of a former one", async () => {
  await using served = await serveTestDevice({ openings: OPENINGS });
  await new Scene(served).do({ who: 0, what: "open", at: 0, size: 1, file: false });
  await served.server.disconnect("only to have everything loaded");
  const before = openDescriptors();
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 50, size: "max" }), async (steps) => {
      const scene = new Scene(served);
      try {
        for (const one of steps) {
          await scene.do(one);
          await scene.check();
        }
      } finally {
        await scene.end();
      }
      await scene.check();
    }),
    { numRuns: 60 },
  );
  assert.equal(openDescriptors(), before);
});
