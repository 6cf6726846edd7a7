// The golden map of a small function, whole: any change of what a driver sees shows here.
import assert from "node:assert/strict";
import { test } from "node:test";
import { goldenMap, msi, pm, vendorSpecific } from "./index.ts";

const declaration = {
  name: "small",
  modelVersion: 3,
  vendorId: 0x1234,
  deviceId: 0x0add,
  classCode: 0x088000,
  revision: 7,
  interruptPin: "B",
  bars: { 0: { size: 4096 }, 2: { size: 2 ** 33, kind: "memory64", prefetchable: true } },
  rom: new Uint8Array(3000),
  capabilities: [
    pm({ pme: ["D0"] }),
    msi({ perVectorMasking: true }),
    vendorSpecific({ content: Uint8Array.of(1, 2, 3), writable: Uint8Array.of(0, 0xf0) }),
  ],
} as const;

const expected = `\
small version 3: 1234:0add class 088000 revision 07, 256 bytes
BAR 0: memory32 0x1000
BAR 2: memory64 prefetchable 0x200000000
ROM: 0x1000
at  register                             reset    writable clear    kept     by flr
000 HEADER.VENDOR_ID                     1234     -        -        -        -
002 HEADER.DEVICE_ID                     0add     -        -        -        -
004 HEADER.COMMAND                       -        0547     -        -        -
006 HEADER.STATUS                        0010     -        f900     -        -
008 HEADER.REVISION_ID                   07       -        -        -        -
009 HEADER.PROGRAMMING_INTERFACE         -        -        -        -        -
00a HEADER.SUBCLASS                      80       -        -        -        -
00b HEADER.BASE_CLASS                    08       -        -        -        -
00c HEADER.CACHE_LINE_SIZE               -        ff       -        -        -
00d HEADER.LATENCY_TIMER                 -        ff       -        -        -
00e HEADER.HEADER_TYPE                   -        -        -        -        -
00f HEADER.BIST                          -        -        -        -        -
010 HEADER0.BAR0                         -        fffff000 -        -        -
014 HEADER0.BAR1                         -        -        -        -        -
018 HEADER0.BAR2                         0000000c -        -        -        -
01c HEADER0.BAR3                         -        fffffffe -        -        -
020 HEADER0.BAR4                         -        -        -        -        -
024 HEADER0.BAR5                         -        -        -        -        -
028 HEADER0.CARDBUS_CIS_POINTER          -        -        -        -        -
02c HEADER0.SUBSYSTEM_VENDOR_ID          1234     -        -        -        -
02e HEADER0.SUBSYSTEM_ID                 0add     -        -        -        -
030 HEADER0.EXPANSION_ROM                -        fffff001 -        -        -
034 HEADER0.CAPABILITIES_POINTER         40       -        -        -        -
03c HEADER.INTERRUPT_LINE                -        ff       -        -        -
03d HEADER.INTERRUPT_PIN                 02       -        -        -        -
03e HEADER0.MIN_GNT                      -        -        -        -        -
03f HEADER0.MAX_LAT                      -        -        -        -        -
040 PM.HEAD                              4801     -        -        -        -
042 PM.PMC                               0803     -        -        -        -
044 PM.PMCSR                             -        0103     8000     8100     -
046 PM.PMCSR_BSE                         -        -        -        -        -
047 PM.DATA                              -        -        -        -        -
048 MSI.HEAD                             6005     -        -        -        -
04a MSI.CONTROL                          0180     0071     -        -        -
04c MSI.MESSAGE_ADDRESS                  -        fffffffc -        -        -
050 MSI.MESSAGE_UPPER_ADDRESS            -        ffffffff -        -        -
054 MSI.MESSAGE_DATA_64                  -        ffff     -        -        -
058 MSI.MASK_BITS_64                     -        00000001 -        -        -
05c MSI.PENDING_BITS_64                  -        -        -        -        -
060 VNDR.HEAD                            0009     -        -        -        -
062 VNDR.LENGTH                          06       -        -        -        -
063 VNDR+0x3                             01       -        -        -        -
064 VNDR+0x4                             02       f0       -        -        -
065 VNDR+0x5                             03       -        -        -        -
`;

test("the golden map names every register with its reset value and masks", () => {
  assert.equal(goldenMap(declaration), expected);
  assert.equal(goldenMap(declaration), goldenMap({ ...declaration }));
});
