import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import fc from "fast-check";
import { PciIds } from "../pci/ids.ts";
import { FunctionNames } from "./names.ts";

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "ring3-names-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return join(directory, "pci.ids");
}

test("blocks of single vendors give the names that the whole file gives", (t) => {
  const path = place(t);
  const hex4 = fc.integer({ min: 0, max: 0xffff }).map((id) => id.toString(16).padStart(4, "0"));
  const name = fc.stringMatching(/^[A-Za-z][A-Za-z .é]{0,8}[a-z]$/);
  const device = fc.tuple(hex4, name, fc.constantFrom("", "# a remark\n", "\t\t1af4 0001  A board\n"));
  const vendor = fc.tuple(hex4, name, fc.uniqueArray(device, { selector: ([id]) => id, maxLength: 4 }));
  const file = fc.uniqueArray(vendor, { selector: ([id]) => id, maxLength: 6 });
  fc.assert(
    fc.property(file, (vendors) => {
      const known = [["8086", "Intel Corporation", []] as const, ...vendors.filter(([id]) => id !== "8086")];
      const blocks = known.map(([id, text, devices]) => {
        return `${id}  ${text}\n${devices.map(([own, called, after]) => `\t${own}  ${called}\n${after}`).join("")}`;
      });
      const text = `# The list\n\n${blocks.join("")}C 01  Mass storage controller\n\t08  NVMe\n`;
      writeFileSync(path, text);
      const whole = new PciIds(text);
      const names = new FunctionNames([path]);
      for (const [id, , devices] of [...known, ["fff0", "", []] as const]) {
        const number = Number.parseInt(id, 16);
        assert.equal(names.vendor(number), whole.vendor(number));
        for (const [own] of [...devices, ["fffe"] as const]) {
          const deviceId = Number.parseInt(own, 16);
          assert.equal(names.device(number, deviceId), whole.device(number, deviceId));
        }
      }
    }),
  );
});

test("a file of one's own, and none at all", (t) => {
  const path = place(t);
  writeFileSync(path, "1AF4\tRed Hat\n\t1000 Network\n");
  const own = new FunctionNames(["/nowhere/pci.ids", path]);
  assert.deepEqual([own.vendor(0x1af4), own.device(0x1af4, 0x1000), own.vendor(1)], ["Red Hat", "Network", undefined]);
  const none = new FunctionNames([]);
  assert.deepEqual([none.vendor(0x8086), none.device(0x8086, 1)], [undefined, undefined]);
  assert.equal(none.class(0x010802), "Non-volatile memory controller");
});
