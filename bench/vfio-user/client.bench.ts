// ring3's client on the other side of a process: reads 4 bytes of config space so many times, and prints p50 and p99 in
// microseconds.
import { open } from "ring3";

const [socket = "", count = "10000"] = process.argv.slice(2);
await using fn = await open(`vfio-user:${socket}`);
const reads = Number(count);
const times = new Float64Array(reads);
for (let i = -reads / 10; i < reads; i++) {
  const start = performance.now();
  fn.config.read32(0);
  if (i >= 0) times[i] = (performance.now() - start) * 1000;
}
times.sort();
console.log(times[Math.floor(reads / 2)], times[Math.floor(reads * 0.99)]);
