// An NVMe controller driven by an ordinary user: identify it, write blocks, read them back, print its health.
// usage: node examples/first-light.ts ADDRESS TEXT
import { readFileSync } from "node:fs";
import { open } from "ring3";
import { NvmeDriver } from "ring3/nvme";

const [address, text] = process.argv.slice(2);
if (address === undefined || text === undefined) {
  console.error("usage: first-light.ts ADDRESS TEXT (writes blocks 8 to 15 of namespace 1)");
  process.exit(2);
}

const capabilities = /CapEff:\s*(\w+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
console.log(`this process: uid ${process.getuid?.()}, CapEff ${capabilities}`);

await using fn = await open(address);
const { vendorId, deviceId, backend } = fn.identity;
const hex = (value: number): string => value.toString(16).padStart(4, "0");
console.log(`opened ${address}: ${hex(vendorId)}:${hex(deviceId)} through ${backend}`);

await using nvme = await NvmeDriver.start(fn);
const { MN, SN, FR } = nvme.controller;
console.log(`controller: ${MN}, serial ${SN}, firmware ${FR}`);
for (const { id, blocks, blockSize } of nvme.namespaces) {
  console.log(`namespace ${id}: ${blocks} blocks of ${blockSize} bytes`);
}

const disk = nvme.namespace(1);
const written = new Uint8Array(8 * disk.blockSize);
const words = new TextEncoder().encode(`${text}\n`);
for (let i = 0; i < written.length; i++) written[i] = words[i % words.length] ?? 0;
await disk.write(8n, written);
await disk.flush();
console.log(`wrote and flushed blocks 8 to 15: "${text}", again and again`);

const read = await disk.read(8n, 8);
if (!read.every((byte, i) => byte === written[i])) throw new Error("what was read is not what was written");
console.log("read them back: every byte is the same");

const smart = await nvme.smart();
console.log(
  `SMART: ${smart.COMPOSITE_TEMPERATURE - 273} °C, spare ${smart.AVAILABLE_SPARE} %, ` +
    `${smart.HOST_READ_COMMANDS} reads, ${smart.HOST_WRITE_COMMANDS} writes, critical warnings ${smart.CRITICAL_WARNING}`,
);
