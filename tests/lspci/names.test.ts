// Every name of the list: a function for each vendor, device and board that pci.ids knows, with a class in turn. Names are
// what real machines differ in most, and lspci formats them into buffers that some of them overflow.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { after } from "node:test";
import { hexdump } from "../../packages/ring3/src/binary/hexdump.ts";
import { PciAddress } from "../../packages/ring3/src/pci/address.ts";
import { type Lspci, lspciPair, parting } from "./real.ts";

const pair: Lspci | undefined = await lspciPair();
const skip = pair === undefined ? "the real lspci cannot be fetched here" : false;
after(() => pair?.[Symbol.dispose]());

interface Ids {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** What a list names, and next to each vendor and class something that it does not. */
function listed(text: string): { readonly functions: readonly Ids[]; readonly classes: readonly number[] } {
  const functions: Ids[] = [];
  const classes: number[] = [];
  let [vendorId, deviceId, classCode, isClass] = [0, 0, 0, false];
  for (const line of text.split("\n")) {
    const [, tabs = "", word = "", board = ""] =
      /^(\t*)(C [0-9a-f]{2}|[0-9a-f]{2,4})(?: ([0-9a-f]{4}))? /.exec(line) ?? [];
    const id = Number.parseInt(word.replace("C ", ""), 16);
    if (Number.isNaN(id)) continue;
    if (tabs === "") isClass = word.startsWith("C ");
    if (isClass) {
      if (tabs === "") classCode = (id << 16) | 0xfe00;
      else if (tabs === "\t") classCode = (classCode & 0xff0000) | (id << 8);
      classes.push(tabs === "\t\t" ? classCode | id : classCode);
    } else {
      if (tabs === "") [vendorId, deviceId] = [id, 0xfffe];
      else if (tabs === "\t") deviceId = id;
      const own = { subsystemVendorId: vendorId, subsystemId: deviceId };
      const boards = { subsystemVendorId: id, subsystemId: Number.parseInt(board, 16) };
      functions.push({ vendorId, deviceId, ...(tabs === "\t\t" ? boards : own) });
    }
  }
  return { functions, classes };
}

function dumpOf({ functions, classes }: ReturnType<typeof listed>): string {
  return functions
    .map(({ vendorId, deviceId, subsystemVendorId, subsystemId }, index) => {
      const view = new DataView(new ArrayBuffer(64));
      view.setUint16(0x00, vendorId, true);
      view.setUint16(0x02, deviceId, true);
      view.setUint32(0x08, ((classes[index % classes.length] ?? 0) << 8) >>> 0, true);
      view.setUint16(0x2c, subsystemVendorId, true);
      view.setUint16(0x2e, subsystemId, true);
      return `${PciAddress.fromRoutingId(0, index % 0x10000).toString()} x\n${hexdump(new Uint8Array(view.buffer))}\n\n`;
    })
    .join("");
}

const OPTIONS: readonly (readonly string[])[] = [["-vnn"], ["-mm"]];

test("every vendor, device, board and class of pci.ids", { skip }, async (t) => {
  assert.ok(pair !== undefined);
  const peer: Lspci = pair;
  const names = listed(readFileSync(peer.names, "latin1"));
  assert.ok(names.functions.length > 10_000 && names.classes.length > 100);
  t.diagnostic(`${names.functions.length} functions, ${names.classes.length} classes`);
  const dump = dumpOf(names);
  for (const words of OPTIONS) {
    const [ours, real] = [await peer.ours(dump, words), peer.real(dump, words)];
    assert.equal(parting(ours.stdout, real.stdout), undefined, words.join(" "));
  }
});

test("names around the size of lspci's buffers, and lines as people leave them", { skip }, async () => {
  assert.ok(pair !== undefined);
  const peer: Lspci = pair;
  const lengths = [100, 120, 127, 128, 246, 247, 248, 249, 250, 251, 252, 253, 254, 255, 256, 300];
  const entry = (tabs: string, digits: number, id: number, length: number): string =>
    `${tabs}${id.toString(16).padStart(digits, "0")}  ${"n".repeat(length)}`;
  const lines = [
    ...["8086  Vendor \t", ...lengths.map((length, index) => entry("\t", 4, index, length))],
    ...["\t00f0   with blanks  ", "\t00f1  no break\u00a0", "\t00f2\ttab", "", "  ", "# comment", "\t00F3  upper"],
    ...["C 02  Network", ...lengths.map((length, index) => entry("\t", 2, index, length)), ""],
  ];
  const list = lines.join("\n");
  const file = join(peer.directory, "list");
  writeFileSync(file, list, "latin1");
  const dump = dumpOf(listed(list.toLowerCase().replace("\nc 02", "\nC 02")));
  for (const words of [...OPTIONS, [], ["-tv"], ["-nn"], ["-v"], ["-mmnn"], ["-tvnn"], ["-vmm"]]) {
    const both = [...words, "-i", file];
    const [ours, real] = [await peer.ours(dump, both), peer.real(dump, both)];
    assert.equal(parting(ours.stdout, real.stdout), undefined, words.join(" "));
  }
});
