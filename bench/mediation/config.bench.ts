// Runs inside the guest as an ordinary user: the cost of config space over the kernel's VFIO, as a line of JSON for each
// round after the first, which compiles. Words: address, accesses of a turn, rounds.
import { open } from "ring3";
import { measureConfig } from "./config.ts";

const [address = "", accesses, rounds] = process.argv.slice(2);
for (let round = -1; round < Number(rounds); round++) {
  await using fn = await open(address);
  const cost = await measureConfig(fn, Number(accesses));
  if (round >= 0) console.log(JSON.stringify(cost));
}
