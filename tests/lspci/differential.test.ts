// The real lspci 3.15 and ours print the same for the same dump: generated config spaces, thousands to a call. Where the real
// one cannot be fetched the tests are skipped. RING3_LSPCI_SPACES says how many spaces are tried.
import assert from "node:assert/strict";
import test, { after } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { parseDump } from "../../packages/ring3/src/pci/dump.ts";
import { type LspciOptions, lspci, UnfetchedByteError } from "../../packages/ring3/src/pci/lspci/index.ts";
import { generatedConfig, numbersFrom } from "./generated-config.ts";
import { type Lspci, lspciPair, parting } from "./real.ts";

const SPACES = Number(process.env["RING3_LSPCI_SPACES"] ?? 500);
const BATCH = 1000;

const pair: Lspci | undefined = await lspciPair();
const skip = pair === undefined ? "the real lspci cannot be fetched here" : false;
after(() => pair?.[Symbol.dispose]());

function ours(dump: string, options: LspciOptions): { readonly text: string; readonly stopped: string | undefined } {
  let text = "";
  try {
    lspci(parseDump(dump), options, (part) => {
      text += part;
    });
  } catch (error) {
    if (!(error instanceof UnfetchedByteError)) throw error;
    return { text, stopped: error.message };
  }
  return { text, stopped: undefined };
}

const block = (bytes: Uint8Array, index: number): string => {
  const hex = (value: number): string => value.toString(16).padStart(2, "0");
  return `${hex(index >> 8)}:${hex((index >> 3) & 31)}.${index & 7} generated\n${hexdump(bytes)}\n\n`;
};

const CASES: readonly (readonly [words: readonly string[], options: LspciOptions, share: number])[] = [
  [["-vvv"], { verbose: 3 }, 1],
  [["-vvvnn"], { verbose: 3, numeric: 2 }, 0.5],
  [["-vv"], { verbose: 2 }, 0.2],
  [["-v"], { verbose: 1 }, 0.2],
  [["-vvvb"], { verbose: 3, busCentric: true }, 0.1],
  [["-n"], { numeric: 1 }, 0.1],
  [["-mm"], { machine: 2 }, 0.1],
  [["-vmm"], { verbose: 1, machine: 2 }, 0.1],
  [["-xxxx"], { hex: 4 }, 0.05],
];

for (const [words, options, share] of CASES) {
  test(`lspci ${words.join(" ")}: the same text as the real one`, { skip }, () => {
    assert.ok(pair !== undefined);
    const peer: Lspci = pair;
    const all = { ...options, ids: peer.ids };
    for (let first = 0; first < SPACES * share; first += BATCH) {
      const blocks: string[] = [];
      for (let seed = first; seed < Math.min(first + BATCH, SPACES * share); seed++) {
        const dump = block(generatedConfig(numbersFrom(seed)), blocks.length);
        // The real one gives up altogether at some broken ones: those are tried alone, below.
        if (ours(dump, all).stopped === undefined) blocks.push(dump);
      }
      const dump = blocks.join("");
      assert.equal(parting(ours(dump, all).text, peer.real(dump, words).stdout), undefined);
    }
  });
}

test("where the real one stops at a byte that it never read, ours stops as well, with the same text before", {
  skip,
}, () => {
  assert.ok(pair !== undefined);
  const peer: Lspci = pair;
  let stops = 0;
  for (let seed = 0; seed < 2000 && stops < 10; seed++) {
    const dump = block(generatedConfig(numbersFrom(seed)), 0);
    const { text, stopped } = ours(dump, { verbose: 3, ids: peer.ids });
    if (stopped === undefined) continue;
    stops++;
    const { stdout } = peer.real(dump, ["-vvv"]);
    // Past the end of what it has allocated the real one sees whatever lies there: it may stop a little later, or not at all.
    assert.equal(stdout.slice(0, text.length), text);
  }
  assert.ok(stops > 0);
});
