import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { EventFd } from "./event-fd.ts";
import { eventSignals, waysToSignal } from "./event-signals.ts";
import * as native from "./native.ts";

const F_SETFL = 4;

function fill(event: EventFd): void {
  const most = new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer);
  native.attemptCall(() => native.write(event.fd.number, most, 8));
}

for (const [index, way] of waysToSignal.entries()) {
  test(`way ${index}: every signal counts`, () => {
    const signals = way();
    if (signals === undefined) return;
    using first = new EventFd();
    using second = new EventFd();
    for (let i = 0; i < 1000; i++) {
      signals.signal(first.fd.number);
      if (i % 10 === 0) signals.signal(second.fd.number);
    }
    assert.deepEqual([first.read(), second.read()], [1000, 100]);
  });

  test(`way ${index}: a counter that is full, and blocks, and one that is closed hold up nobody`, () => {
    const signals = way();
    if (signals === undefined) return;
    const event = new EventFd();
    fill(event);
    native.attemptCall(() => native.fcntl(event.fd.number, F_SETFL, 0));
    for (let i = 0; i < 100; i++) signals.signal(event.fd.number);
    const { number } = event.fd;
    event[Symbol.dispose]();
    signals.signal(number);
    using other = new EventFd();
    signals.signal(other.fd.number);
    assert.equal(other.read(), 1);
  });
}

test("a foreign counter is read without waiting, whatever its flags", () => {
  using own = new EventFd();
  using event = new EventFd(own.fd.duplicate(), { foreign: true });
  native.attemptCall(() => native.fcntl(own.fd.number, F_SETFL, 0));
  assert.equal(event.read(), 0);
  own.write(3);
  assert.equal(event.read(), 3);
  assert.equal(event.read(), 0);
});

test("a peer that fills and empties the counter all the time holds up nobody", async () => {
  using event = new EventFd();
  native.attemptCall(() => native.fcntl(event.fd.number, F_SETFL, 0));
  const native_ = new URL("./native.ts", import.meta.url).href;
  const text = `
    const { parentPort } = require("node:worker_threads");
    import(${JSON.stringify(native_)}).then((native) => {
      const most = new Uint8Array(BigUint64Array.of(2n ** 64n - 2n).buffer);
      const into = new Uint8Array(8);
      parentPort.postMessage("at it");
      for (const until = performance.now() + 300; performance.now() < until; ) {
        native.fcntl(${event.fd.number}, 4, 2048);
        native.read(${event.fd.number}, into, 8);
        native.write(${event.fd.number}, most, 8);
        native.fcntl(${event.fd.number}, 4, 0);
      }
      parentPort.postMessage("done");
    });`;
  const worker = new Worker(text, { eval: true });
  let done = false;
  await new Promise<void>((resolve, reject) => {
    worker.on("error", reject);
    worker.on("message", (said) => {
      if (said === "done") done = true;
      else resolve();
    });
  });
  while (!done) {
    for (let i = 0; i < 200; i++) eventSignals().signal(event.fd.number);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await worker.terminate();
});
