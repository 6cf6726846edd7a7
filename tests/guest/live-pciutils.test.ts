// The real lspci and setpci on the functions of a guest, beside ring3: what sysfs says live, what dump and sysfs-tree write from
// it and from a function that uid 1000 has open through VFIO, and 10,000 reads and writes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { GuestUnavailable } from "./cache.ts";
import { bootGuest, type Guest } from "./guest.ts";
import { FUNCTIONS } from "./machine.ts";
import { GROUPS, packageRoot } from "./packages.ts";

const PEERS = "/mnt";
const LIBRARIES = `${PEERS}/usr/lib/x86_64-linux-gnu`;
const LSPCI = [`${LIBRARIES}/ld-linux-x86-64.so.2`, "--library-path", LIBRARIES, `${PEERS}/usr/bin/lspci`];
const RING3 = ["node", "/ring3/packages/cli/src/main.js"];

test("pciutils and ring3 on the same functions", { timeout: 900_000 }, async (t) => {
  let guest: Guest;
  try {
    const root = await packageRoot(GROUPS.peers, (line) => t.diagnostic(line));
    const share = `local,id=peers,path=${root},security_model=none,readonly=on`;
    const device = "virtio-9p-pci-non-transitional,fsdev=peers,mount_tag=peers,bus=pcie.0,addr=0x10";
    guest = await bootGuest({ kernel: "iommufd", machine: { args: ["-fsdev", share, "-device", device] } });
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(error.message);
    return;
  }
  await using running = guest;
  const ok = async (words: readonly string[], uid: number): Promise<string> => {
    const { code, stdout, stderr } = await running.run(words, { uid, timeoutMs: 300_000 });
    assert.equal(code, 0, `${words.join(" ")}\n${stdout}${stderr}`);
    return stdout;
  };
  await ok(["mount", "-t", "9p", "-o", "trans=virtio,version=9p2000.L,ro,cache=loose", "peers", PEERS], 0);
  // VFIO first, as uid 1000: what its owner sees of a function.
  const { address } = FUNCTIONS.nvme;
  for (const backend of ["group", "iommufd"]) {
    const source = [address, "--backend", backend];
    await ok([...RING3, "dump", "-o", `/tmp/${backend}`, ...source], 1000);
    await ok([...RING3, "sysfs-tree", `/tmp/${backend}-tree`, ...source], 1000);
    const options = ["-i", `${PEERS}/usr/share/misc/pci.ids`, "-vvv"];
    const dumped = await ok([...LSPCI, "-F", `/tmp/${backend}`, ...options], 1000);
    const tree = ["-A", "linux-sysfs", "-O", `sysfs.path=/tmp/${backend}-tree`];
    const listed = await ok([...LSPCI, ...tree, ...options], 1000);
    for (const text of [dumped, listed]) {
      assert.match(text, /^01:00\.0 Non-Volatile memory controller: /);
      assert.match(text, /Express \(v2\) Endpoint/);
      assert.match(text, /MSI-X: Enable- Count=/);
    }
    assert.match(listed, /Region 0: Memory at .*\[size=16K\]/);
  }
  const result = JSON.parse(await ok(["node", "/ring3/tests/guest/live/pciutils.js"], 0)) as { operations: number };
  assert.equal(result.operations, 10_000);
});
