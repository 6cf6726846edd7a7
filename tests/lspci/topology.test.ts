// Trees and paths over generated buses: sound ones by the hundred, a domain each, and odd ones alone, since lspci dies of some
// of them; those cannot be compared.
import assert from "node:assert/strict";
import test, { after } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { numbersFrom } from "./generated-config.ts";
import { generatedTopology, type Placed } from "./generated-topology.ts";
import { type Lspci, lspciPair, parting } from "./real.ts";

const TOPOLOGIES = Number(process.env["RING3_LSPCI_TOPOLOGIES"] ?? 150);

const pair: Lspci | undefined = await lspciPair();
const skip = pair === undefined ? "the real lspci cannot be fetched here" : false;
after(() => pair?.[Symbol.dispose]());

const dumpOf = (placed: readonly Placed[]): string =>
  placed.map(({ address, bytes }) => `${address.toString()} x\n${hexdump(bytes)}\n\n`).join("");

/** False where the real one died. */
async function compare(dump: string, words: string): Promise<boolean> {
  assert.ok(pair !== undefined);
  const options = words.split(" ");
  const real = pair.real(dump, options);
  if (real.status === null) return false;
  const ours = await pair.ours(dump, options);
  assert.equal(parting(ours.stdout, real.stdout), undefined, words);
  return true;
}

test(`${TOPOLOGIES} domains of bridges`, { skip }, async () => {
  const all = Array.from({ length: TOPOLOGIES }, (_, domain) => generatedTopology(numbersFrom(domain), domain, true));
  const dump = dumpOf(all.flat());
  for (const words of ["-t", "-tvnn", "-P", "-PP", "-mmPP", "-t -s 1:", "-tv -d 8086:", "-t -s 0.0"]) {
    assert.ok(await compare(dump, words));
  }
});

test("bus numbers that no firmware would leave behind", { skip }, async (t) => {
  let survived = 0;
  for (let seed = 0; seed < 20; seed++) {
    const dump = dumpOf(generatedTopology(numbersFrom(seed), 0, false));
    if (await compare(dump, "-tv")) survived++;
    await compare(dump, "-PP");
  }
  t.diagnostic(`lspci survived ${survived} of 20`);
  assert.ok(survived > 5);
});

// Of longer lines lspci dies.
test("bridges below each other until the line is nearly full", { skip }, async () => {
  const chain = Array.from({ length: 61 }, (_, bus): Placed => {
    const bytes = new Uint8Array(64);
    bytes.set([0x86, 0x80], 0);
    bytes.set([4, 6], 0x0a);
    bytes[0x0e] = 1;
    bytes.set([bus, bus + 1, 61], 0x18);
    return { address: new PciAddress(0, bus, 0, 0), bytes };
  });
  for (const words of ["-t", "-tv", "-P", "-PP"]) assert.ok(await compare(dumpOf(chain), words));
});
