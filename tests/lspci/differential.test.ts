// The real lspci 3.15 and ours print the same for the same dump: generated config spaces, thousands to a call. Where the real
// one cannot be fetched the tests are skipped. RING3_LSPCI_SPACES says how many spaces are tried.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { parseDump } from "../../packages/ring3/src/pci/dump.ts";
import { PciIds } from "../../packages/ring3/src/pci/ids.ts";
import { type LspciOptions, lspci, UnfetchedByteError } from "../../packages/ring3/src/pci/lspci/index.ts";
import { GuestUnavailable } from "../guest/cache.ts";
import { GROUPS, packageRoot } from "../guest/packages.ts";
import { debianTool } from "../guest/tools.ts";
import { generatedConfig, numbersFrom } from "./generated-config.ts";

const SPACES = Number(process.env["RING3_LSPCI_SPACES"] ?? 500);
const BATCH = 1000;

const root = await packageRoot(GROUPS.peers, () => {}).catch((error: unknown) => {
  if (error instanceof GuestUnavailable) return undefined;
  throw error;
});
const skip = root === undefined ? "the real lspci cannot be fetched here" : false;

interface Real {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

function real(dump: string, words: readonly string[]): Real {
  const { program, args } = debianTool(root ?? "", "lspci");
  const directory = mkdtempSync(join(tmpdir(), "ring3-lspci-"));
  try {
    const file = join(directory, "dump");
    writeFileSync(file, dump);
    const names = join(root ?? "", "usr/share/misc/pci.ids");
    const options = { encoding: "latin1", maxBuffer: 2 ** 30 } as const;
    return spawnSync(program, [...args, "-i", names, "-F", file, ...words], options);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

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
    const ids = new PciIds(readFileSync(join(root ?? "", "usr/share/misc/pci.ids"), "latin1"));
    const all = { ...options, ids };
    for (let first = 0; first < SPACES * share; first += BATCH) {
      const blocks: string[] = [];
      for (let seed = first; seed < Math.min(first + BATCH, SPACES * share); seed++) {
        const dump = block(generatedConfig(numbersFrom(seed)), blocks.length);
        // The real one gives up altogether at some broken ones: those are tried alone, below.
        if (ours(dump, all).stopped === undefined) blocks.push(dump);
      }
      const dump = blocks.join("");
      const expected = real(dump, words).stdout.split("\n");
      const actual = ours(dump, all).text.split("\n");
      const at = expected.findIndex((line, index) => line !== actual[index]);
      assert.deepEqual(actual.slice(Math.max(0, at - 5), at + 3), expected.slice(Math.max(0, at - 5), at + 3));
      assert.equal(actual.length, expected.length);
    }
  });
}

test("where the real one stops at a byte that it never read, ours stops as well, with the same text before", {
  skip,
}, () => {
  const ids = new PciIds(readFileSync(join(root ?? "", "usr/share/misc/pci.ids"), "latin1"));
  let stops = 0;
  for (let seed = 0; seed < 2000 && stops < 10; seed++) {
    const dump = block(generatedConfig(numbersFrom(seed)), 0);
    const { text, stopped } = ours(dump, { verbose: 3, ids });
    if (stopped === undefined) continue;
    stops++;
    const { stdout } = real(dump, ["-vvv"]);
    // Past the end of what it has allocated the real one sees whatever lies there: it may stop a little later, or not at all.
    assert.equal(stdout.slice(0, text.length), text);
  }
  assert.ok(stops > 0);
});
