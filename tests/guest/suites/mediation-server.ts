// A process that serves a real function through the mediator. Words: address, socket, options as JSON. It prints
// `ready`, and answers each line on its standard input with what it knows, as a line of JSON; the end of input ends it.
import { createInterface } from "node:readline";
import { open } from "../../../packages/ring3/src/index.ts";
import { type MediationOptions, mediate } from "../../../packages/ring3/src/mediation/index.ts";
import { Header } from "../../../packages/ring3/src/pci/header.ts";
import { serve } from "../../../packages/ring3/src/vfio-user/index.ts";

const [address = "", socket = "", options = "{}"] = process.argv.slice(2);
const faults: string[] = [];
const hits: string[] = [];

await using fn = await open(address);
await using mediated = await mediate(fn, {
  ...(JSON.parse(options) as MediationOptions),
  observer: { rule: ({ rule, place }) => hits.push(`${rule} ${place}`) },
});
mediated.events.on("fault", ({ description }) => faults.push(description));
await using server = await serve(mediated, socket);
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "settle") await mediated.settling;
  const { BUS_MASTER } = fn.config.read(Header.COMMAND);
  console.log(
    JSON.stringify({
      direct: mediated.interrupts.direct,
      lockedBytes: mediated.lockedBytes,
      user: mediated.connectedTo ?? null,
      busMaster: BUS_MASTER === 1,
      connections: server.statistics.connections,
      faults: faults.splice(0),
      hits: hits.splice(0),
    }),
  );
}
