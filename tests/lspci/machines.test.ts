// Every machine of the table, and every device that ring3 serves: `ring3 lspci` and the real one print the same, byte for
// byte, for every option. The machines are put into one dump, a domain each, and are shown alone as well.
import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { EduDevice } from "../../packages/ring3/src/devices/edu/index.ts";
import { memoryBacking, NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import { EthernetSwitch, VirtioBlock, VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import type { VirtualFunction } from "../../packages/ring3/src/virtual/index.ts";
import { enumerate, type Found } from "./enumeration.ts";
import { MACHINES } from "./machines.ts";
import { QtestMachine } from "./qtest.ts";
import { type Lspci, lspciPair, packageRootOrNone, parting } from "./real.ts";

const pair: Lspci | undefined = await lspciPair();
const qemu = await packageRootOrNone("qemu");
const skip = pair === undefined || qemu === undefined ? "QEMU or the real lspci cannot be fetched here" : false;

/** Functions by machine. */
const machines: { readonly name: string; readonly functions: readonly Found[] }[] = [];

before(async () => {
  if (qemu === undefined) return;
  for (const machine of MACHINES) {
    await using running = new QtestMachine(qemu, machine);
    machines.push({ name: machine.name, functions: await enumerate(running, machine) });
  }
  machines.push({ name: "what ring3 serves", functions: served() });
});
after(() => pair?.[Symbol.dispose]());

/** Devices of ring3 in one slot each, as they are before firmware and after. */
function served(): Found[] {
  const backing = memoryBacking(2 ** 20);
  const devices: (() => VirtualFunction)[] = [
    () => new EduDevice(),
    () => new NvmeDevice({ namespaces: [{ backing }] }),
    () => new NvmeDevice({ namespaces: [{ backing }, { backing: memoryBacking(4096), readOnly: true }] }),
    () => new VirtioBlock({ backing }),
    () => new VirtioBlock({ backing, readOnly: true, queues: 4, serial: "ring3" }),
    () => new VirtioNet(),
    () => new VirtioNet({ link: new EthernetSwitch().port(), queuePairs: 4, mtu: 9000 }),
  ];
  return devices.flatMap((make, index) =>
    [0, 1].map((fn) => {
      using device = make();
      const { config } = device;
      for (let at = 0x10; fn === 1 && at < 0x28; at += 8) config.write(at, 4, 0xd0000000 + at * 0x100000);
      if (fn === 1) config.write(0x04, 2, 0x0507);
      const bytes = new Uint8Array(config.size);
      config.readInto(0, bytes);
      return { address: new PciAddress(0, 0, index, fn), bytes };
    }),
  );
}

function dumpOf(functions: readonly Found[], domain = 0): string {
  return functions
    .map(({ address: { bus, device, function: fn }, bytes }) => {
      const address = new PciAddress(domain, bus, device, fn);
      return `${address.toString()} found\n${hexdump(bytes)}\n\n`;
    })
    .join("");
}

/** With domains of all machines in one dump. */
const TOGETHER: readonly string[] = [
  ...["", "-v", "-vv", "-vvv", "-n", "-nn", "-k", "-kvv", "-D", "-P", "-PP", "-t", "-tv", "-tvv", "-tnn", "-tvnn"],
  ...["-vvvnn", "-vvvn", "-x", "-xx", "-xxx", "-xxxx", "-vvvxxxx", "-m", "-mm", "-mmn", "-mmnn", "-mmD", "-mmk"],
  ...["-vm", "-vmm", "-vmmnnk", "-b", "-bvvv", "-bmm", "-tP", "-PPmm", "-PD", "-xmm", "-vmmxxx"],
  ...["-s 3:", "-s 0003:01:00.0 -vvv", "-s 1.0", "-s .1 -nn", "-s 00: -t", "-s 01: -tv", "-s 1f.2 -P", "-s *:*:02.*"],
  ...[
    "-d 8086: -nn",
    "-d 1af4:1041 -v",
    "-d ::0604 -PP",
    "-d ::01xx",
    "-d ::0108:02 -mm",
    "-d 1b36: -t",
    "-d :",
    "-d *:*",
  ],
  ...["-s 2: -d 8086: -tv", "-d 1234:11e8 -xxx"],
];
/** Of each machine alone: without domains. */
const ALONE: readonly string[] = ["-vvv", "-tv", "-PP"];

test("each machine has functions", { skip }, (t) => {
  for (const { name, functions } of machines) {
    assert.ok(functions.length >= 7, name);
    t.diagnostic(`${functions.length} functions: ${name}`);
  }
});

test(`the same text over all machines, for each of ${TOGETHER.length} sets of options`, { skip }, async () => {
  const dump = machines.map(({ functions }, domain) => dumpOf(functions, domain)).join("");
  for (const words of TOGETHER) await compare(dump, words, "all machines");
});

test("the same text for each machine alone", { skip }, async () => {
  for (const { name, functions } of machines) {
    for (const words of ALONE) await compare(dumpOf(functions), words, name);
  }
});

async function compare(dump: string, words: string, name: string): Promise<void> {
  assert.ok(pair !== undefined);
  const options = words.split(" ").filter(Boolean);
  const [ours, real] = [await pair.ours(dump, options), pair.real(dump, options)];
  const message = `lspci ${words} of ${name}`;
  assert.deepEqual([ours.status, ours.stderr], [real.status, real.stderr], message);
  assert.equal(parting(ours.stdout, real.stdout), undefined, message);
}
