// Generated functions in a directory that both tools take for sysfs: sizes and flags of regions, interrupts, slots, drivers,
// groups and vital product data, which no dump has. And every word that the real lspci can print has been compared.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { treeAccess, writeSysfsTree } from "../../packages/ring3/src/host/index.ts";
import type { AccessedFunction } from "../../packages/ring3/src/pci/access.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { bytesConfigAccess } from "../../packages/ring3/src/pci/config-space.ts";
import { parseDump } from "../../packages/ring3/src/pci/dump.ts";
import { type LspciOptions, lspci, UnfetchedByteError } from "../../packages/ring3/src/pci/lspci/index.ts";
import { generatedConfig, numbersFrom } from "./generated-config.ts";
import { generatedFacts } from "./generated-facts.ts";
import { type Lspci, lspciPair, parting } from "./real.ts";
import { wordsOf } from "./words.ts";

const FUNCTIONS = Number(process.env["RING3_LSPCI_TREE"] ?? 600);

const pair: Lspci | undefined = await lspciPair();
const skip = pair === undefined ? "the real lspci cannot be fetched here" : false;
const directory = mkdtempSync(join(tmpdir(), "ring3-trees-"));
after(() => {
  rmSync(directory, { recursive: true });
  pair?.[Symbol.dispose]();
});

/** Without those at which lspci stops; a third of the devices sits in a slot that has a name. */
function generated(first: number, count: number): AccessedFunction[] {
  const functions: AccessedFunction[] = [];
  for (let seed = first; seed < first + count; seed++) {
    const pick = numbersFrom(seed);
    const bytes = generatedConfig(pick);
    const address = PciAddress.fromRoutingId(0, functions.length);
    const facts = generatedFacts(pick, (bytes[0x0e] ?? 0) & 0x7f);
    // Vital product data are shown where their capability is.
    const pointer = bytes[0x34] ?? 0;
    if (facts.readVpd !== undefined && bytes.length >= 256 && pointer >= 0x40) bytes[pointer & 0xfc] = 3;
    const physicalSlot = address.device % 3 === 0 ? `${address.bus}-${address.device}` : undefined;
    const fn = { address, method: "test", config: bytesConfigAccess(bytes), facts: { ...facts, physicalSlot } };
    if (textOf([fn], { verbose: 3 }) !== undefined) functions.push(fn);
  }
  return functions;
}

function textOf(functions: readonly AccessedFunction[], options: LspciOptions): string | undefined {
  try {
    let text = "";
    lspci(functions, options, (part) => {
      text += part;
    });
    return text;
  } catch (error) {
    if (error instanceof UnfetchedByteError) return undefined;
    throw error;
  }
}

const CASES: readonly (readonly [words: string, options: LspciOptions])[] = [
  ["-vvv", { verbose: 3 }],
  ["-v", { verbose: 1 }],
  ["-vvvb", { verbose: 3, busCentric: true }],
  ["-k", { kernel: true }],
  ["-vmmk", { verbose: 1, machine: 2, kernel: true }],
  ["-mm", { machine: 2 }],
];
const said: string[] = [];

test(`the same text over a tree of ${FUNCTIONS} functions`, { skip }, () => {
  assert.ok(pair !== undefined);
  const peer: Lspci = pair;
  const tree = join(directory, "tree");
  writeSysfsTree(tree, generated(0, FUNCTIONS));
  using found = treeAccess(tree);
  for (const [words, options] of CASES) {
    const { stdout } = peer.tree(tree, [words]);
    said.push(stdout);
    assert.equal(parting(textOf(found.functions, { ...options, ids: peer.ids }) ?? "", stdout), undefined, words);
  }
});

/** Trees of buses, which topology.test.ts has; and what needs what no dump and no tree has: other systems, options that ring3 has not, faults of the machine, libkmod. */
const NEVER =
  /^(--version|lspci.*|-[sd]: |Tree: .*|Mapping bus |But it was.*|\nSummary.*|Entered via |Primary host.*|Secondary host.*| Bridge to | <(overlap|crossing) bug>|dump\.name|help|Known PCI.*|Multiple .*|Bus mapping.*| \(see `.*|Invalid PCI.*|Unrecognized.*|No such PCI.*|Unknown hardware.*|Unable to.*| bytes of memory|Discovered.*|WARNING: .*|!!! Bridge.*| is a bridge from |Usage: .*|Internal bug.*|(\tKernel modules|Module):.*|\.\.\.|[+\\]-\[|DTNode:.*|\tDevice tree node.*|\tDeviceName: )$/s;
/** Of a block without a kind, which lspci leaves out before it names it. */
const UNREACHABLE: readonly string[] = ["empty"];

test("every word that lspci knows is met in generated config spaces", { skip }, () => {
  assert.ok(pair !== undefined);
  const dump = Array.from({ length: 2400 }, (_, seed) => {
    return `${PciAddress.fromRoutingId(1, seed).toString()} x\n${hexdump(generatedConfig(numbersFrom(seed)))}\n\n`;
  })
    .filter((block) => textOf(parseDump(block), { verbose: 3 }) !== undefined)
    .join("");
  for (const words of [["-vvv"], ["-v"]]) said.push(pair.real(dump, words).stdout);
  const text = said.join("");
  const words = [...wordsOf(readFileSync(pair.program))].filter((word) => !NEVER.test(word));
  assert.ok(words.length > 1000);
  assert.deepEqual(
    words.filter((word) => !text.includes(word)),
    UNREACHABLE,
  );
});
