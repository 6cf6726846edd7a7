// Every capability of the virtual function, as the real lspci reads it from a dump. lspci says "<?>" behind every
// vendor-specific capability, since nobody can know their content.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { EduDevice } from "../../packages/ring3/src/devices/edu/index.ts";
import { memoryBacking, NvmeDevice } from "../../packages/ring3/src/devices/nvme/index.ts";
import { VirtioBlock, VirtioNet } from "../../packages/ring3/src/devices/virtio/index.ts";
import * as virtual from "../../packages/ring3/src/virtual/index.ts";
import { type FunctionDeclaration, VirtualConfig } from "../../packages/ring3/src/virtual/index.ts";
import { GuestUnavailable } from "./cache.ts";
import { complaints, lspci, lspciDump } from "./lspci.ts";

const MiB = 2 ** 20;
const bytes = Uint8Array.of(0xde, 0xad, 0xbe, 0xef, 0x55);

const everything: FunctionDeclaration = {
  vendorId: 0x1234,
  deviceId: 0x0add,
  classCode: 0x020000,
  revision: 3,
  interruptPin: "A",
  bars: {
    0: { size: 16 * MiB, kind: "memory64", prefetchable: true },
    2: { size: 4096 },
    3: { size: 128, kind: "io" },
  },
  rom: new Uint8Array(5000),
  capabilities: [
    virtual.pm({ d1: true, pme: ["D0", "D3hot"] }),
    virtual.msi({ vectors: 8, perVectorMasking: true }),
    virtual.msix({ vectors: 2048, table: { bar: 4 } }),
    virtual.pcie({ link: { speed: 16, width: 4 }, maxPayloadBytes: 512 }),
    virtual.vpd({ content: bytes }),
    virtual.vendorSpecific({ content: bytes }),
    virtual.af(),
    virtual.subsystem({ subsystemVendorId: 0x1af4, subsystemId: 0x1100 }),
    virtual.aer({ headers: 4, prefixLog: true, ecrc: true }),
    virtual.dsn({ serialNumber: "00-15-17-ff-ff-aa-bb-cc" }),
    virtual.ari({ nextFunction: 2 }),
    virtual.acs({ directTranslated: true }),
    virtual.ats({ invalidateQueueDepth: 16 }),
    virtual.pasid({ width: 16, executePermission: true }),
    virtual.ltr(),
    virtual.rebar({ bars: [{ bar: 0, sizes: [MiB, 16 * MiB, 2 ** 33] }] }),
    virtual.vsec({ id: 0x42, revision: 1, content: bytes }),
    virtual.dvsec({ vendorId: 0x1e98, id: 0x8000, content: bytes }),
  ],
};

/** What firmware does: addresses, then decoding and bus mastering. */
function assign(config: VirtualConfig): void {
  for (const [at, address] of [
    [0x10, 0xd000_0000],
    [0x18, 0xe000_0000],
    [0x1c, 0xc000],
    [0x20, 0xe010_0000],
  ] as const) {
    config.write(at, 4, address);
  }
  config.write(0x30, 4, 0xe020_0001);
  config.write(0x3c, 1, 11);
  config.write(0x04, 2, 0x0007);
}

const shapes: readonly (readonly [string, FunctionDeclaration, readonly RegExp[]])[] = [
  [
    "all capabilities",
    everything,
    [
      /Control: I\/O\+ Mem\+ BusMaster\+ SpecCycle- MemWINV- VGASnoop-/,
      /Status: Cap\+/,
      /Region 0: Memory at d0000000 \(64-bit, prefetchable\)/,
      /Region 2: Memory at e0000000 \(32-bit, non-prefetchable\)/,
      /Region 3: I\/O ports at c000/,
      /Expansion ROM at e0200000/,
      /Power Management version 3\n.*D1\+ D2- .*PME\(D0\+,D1-,D2-,D3hot\+,D3cold-\)/,
      /MSI: Enable- Count=1\/8 Maskable\+ 64bit\+/,
      /MSI-X: Enable- Count=2048 Masked-\n\t\tVector table: BAR=4 offset=00000000\n\t\tPBA: BAR=4 offset=00008000/,
      /Express \(v2\) Endpoint/,
      /DevCap:\tMaxPayload 512 bytes/,
      /FLReset\+/,
      /LnkSta:\tSpeed 16GT\/s, Width x4/,
      /Vital Product Data/,
      /Vendor Specific Information: Len=08/,
      /AFCap: TP\+ FLR\+/,
      /Subsystem: Red Hat.*\[1af4:1100\]/,
      /\[100 v2\] Advanced Error Reporting/,
      /UEMsk:\tDLP- SDES- TLP- .*\n.* UncorrIntErr\+/,
      /ECRCGenCap\+ ECRCGenEn- ECRCChkCap\+ ECRCChkEn-\n\t\t\tMultHdrRecCap\+ MultHdrRecEn-/,
      /Device Serial Number 00-15-17-ff-ff-aa-bb-cc/,
      /ARICap:\tMFVC- ACS-, Next Function: 2/,
      /ACSCap:.* ReqRedir\+ CmpltRedir\+ UpstreamFwd- EgressCtrl- DirectTrans\+/,
      /Invalidate Queue Depth: 10/,
      /PASIDCap: Exec\+ Priv-, Max PASID Width: 10/,
      /Latency Tolerance Reporting/,
      /BAR 0: current size: 16MB, supported: 1MB 16MB 8GB/,
      /Vendor Specific Information: ID=0042 Rev=1 Len=00d/,
      /Designated Vendor-Specific: Vendor=1e98 ID=8000 Rev=0 Len=15/,
    ],
  ],
  [
    "a conventional function",
    { ...everything, capabilities: [virtual.pm(), virtual.msi({ address64: false }), virtual.af()] },
    [/MSI: Enable- Count=1\/1 Maskable- 64bit-/, /AFCap: TP\+ FLR\+/, /Capabilities: \[40\] Power Management/],
  ],
  [
    "an integrated endpoint",
    { ...everything, capabilities: [virtual.pcie({ type: "integrated" })] },
    [/Express \(v2\) Root Complex Integrated Endpoint/],
  ],
  [
    "a legacy endpoint of version 1",
    { ...everything, capabilities: [virtual.pcie({ type: "legacy", version: 1, functionLevelReset: false })] },
    [/Express \(v1\) Legacy Endpoint/, /FLReset-/],
  ],
  [
    "capabilities at wished places",
    {
      ...everything,
      capabilities: [
        virtual.pcie({ at: 0xc0 }),
        virtual.pm({ at: 0x50 }),
        virtual.ltr({ at: 0x200 }),
        virtual.aer({ at: 0x100 }),
      ],
    },
    [/\[c0\] Express/, /\[50\] Power Management/, /\[100 v2\] Advanced Error/, /\[200 v1\] Latency/],
  ],
];

for (const [name, declaration, expected] of shapes) {
  test(`lspci decodes ${name}`, async (t) => {
    const config = new VirtualConfig(declaration);
    assign(config);
    const text = await decoded(t, config);
    if (text === undefined) return;
    for (const pattern of expected) assert.match(text, pattern);
    assert.deepEqual(complaints(text), []);
  });
}

/** The decoded dump; `undefined` where this machine cannot have lspci, which skips the test. */
async function decoded(t: TestContext, config: VirtualConfig): Promise<string | undefined> {
  try {
    return await lspci(lspciDump(config), (line) => t.diagnostic(line));
  } catch (error) {
    if (!(error instanceof GuestUnavailable)) throw error;
    t.skip(error.message);
    return undefined;
  }
}

test("lspci shows recorded errors, their first and its header", async (t) => {
  const config = new VirtualConfig(everything);
  assign(config);
  config.recordError({ error: "COMPLETION_TIMEOUT", header: [0x04000001, 0x0000000f, 0x01000000, 0] });
  config.recordError({ error: "BAD_TLP" });
  const text = await decoded(t, config);
  if (text === undefined) return;
  assert.match(text, /DevSta:\tCorrErr\+ NonFatalErr\+ FatalErr-/);
  assert.match(text, /UESta:.* CmpltTO\+/);
  assert.match(text, /CESta:\tRxErr- BadTLP\+/);
  assert.match(text, /First Error Pointer: 0e/);
  assert.match(text, /HeaderLog: 04000001 0000000f 01000000 00000000/);
});

const devices: readonly (readonly [string, () => virtual.VirtualFunction, readonly RegExp[]])[] = [
  ["edu", () => new EduDevice(), [/\[1234:11e8\]/, /MSI: Enable- Count=1\/1 Maskable- 64bit\+/]],
  [
    "an NVMe controller",
    () => new NvmeDevice({ namespaces: [{ backing: memoryBacking(4096) }] }),
    [/Non-Volatile memory controller/, /prog-if 02 \[NVM Express\]/, /MSI-X: Enable-/, /Express \(v2\) Endpoint/],
  ],
  [
    "a virtio disk",
    () => new VirtioBlock({ backing: memoryBacking(4096) }),
    [/Virtio 1\.0 block device/i, /VirtIO: CommonCfg/, /VirtIO: Notify/, /VirtIO: ISR/, /VirtIO: DeviceCfg/],
  ],
  ["a virtio network interface", () => new VirtioNet(), [/Virtio 1\.0 network device/i, /VirtIO: CommonCfg/]],
];

for (const [name, make, expected] of devices) {
  test(`lspci decodes ${name}`, async (t) => {
    using device = make();
    const { config } = device;
    for (const [index, at] of [0xd000_0000, 0xd100_0000, 0xd200_0000].entries()) config.write(0x10 + 8 * index, 4, at);
    config.write(0x04, 2, 0x0007);
    const text = await decoded(t, config);
    if (text === undefined) return;
    for (const pattern of expected) assert.match(text, pattern);
    // lspci has no name for virtio's window into BARs (type 5), with QEMU's devices neither.
    const window = /VirtIO: <unknown>/;
    assert.deepEqual(
      complaints(text).filter((line) => !window.test(line)),
      [],
    );
    assert.ok(text.split("\n").filter((line) => window.test(line)).length <= 1);
  });
}
