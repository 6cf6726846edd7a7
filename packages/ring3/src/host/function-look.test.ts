import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { AdvancedErrorReporting as Aer } from "../pci/capabilities/advanced-error-reporting.ts";
import { bytesConfigAccess, ConfigSpace } from "../pci/config-space.ts";
import { parseErrorCounters } from "./error-counters.ts";
import { FakeMachine } from "./fake-machine.ts";
import { FunctionLook } from "./function-look.ts";
import { watchFunctions } from "./function-watch.ts";
import { parseLoggedHeader } from "./kernel-log.ts";
import { type HostEvent, HostEvents } from "./uevents.ts";

const address = "0000:01:00.0";
const counters = (errors: Record<string, number>, total: string): string =>
  `${Object.entries({ ...errors, [total]: 1 })
    .map((pair) => pair.join(" "))
    .join("\n")}\n`;

function machine(attributes: Record<string, string> = {}) {
  const fake = new FakeMachine([
    {
      address,
      attributes: {
        aer_dev_correctable: "RxErr 0\nBadTLP 2\nTOTAL_ERR_COR 2",
        aer_dev_nonfatal: "CmpltTO 0\nTOTAL_ERR_NONFATAL 0",
        aer_dev_fatal: "DLP 0\nTOTAL_ERR_FATAL 0",
        current_link_speed: "8.0 GT/s PCIe",
        current_link_width: "4",
        ...attributes,
      },
    },
  ]);
  const write = (name: string, text: string): void =>
    writeFileSync(join(fake.paths.sysfsRoot, "bus/pci/devices", address, name), text);
  return { fake, write };
}

test("the kernel's names are fields of AER's status registers", () => {
  const known = new Set([
    ...Object.keys(Aer.UNCORRECTABLE_ERROR_STATUS.fields),
    ...Object.keys(Aer.CORRECTABLE_ERROR_STATUS.fields),
  ]);
  const kernel =
    "RxErr BadTLP BadDLLP Rollover Timeout NonFatalErr CorrIntErr HeaderOF DLP SDES TLP FCP CmpltTO CmpltAbrt UnxCmplt RxOF " +
    "MalfTLP ECRC UnsupReq ACSViol UncorrIntErr BlockedTLP AtomicOpBlocked TLPBlockedErr PoisonTLPBlocked DMWrReqBlocked " +
    "IDECheck MisIDETLP PCRC_CHECK TLPXlatBlocked";
  const { errors } = parseErrorCounters(
    kernel
      .split(" ")
      .map((name) => `${name} 1`)
      .join("\n"),
  );
  assert.deepEqual(
    Object.keys(errors).filter((name) => !known.has(name)),
    [],
  );
  assert.equal(Object.keys(errors).length, 30);
  assert.deepEqual(parseErrorCounters("Undefined 0\ndev_fatal_errs_bit[3] 4\nTOTAL_ERR_FATAL 4\nodd line\n"), {
    total: 4,
    errors: { Undefined: 0, "dev_fatal_errs_bit[3]": 4 },
  });
});

test("a look gives what changed since the last one, and nothing twice", () => {
  const { fake, write } = machine();
  using _ = fake;
  using look = new FunctionLook(fake.paths);
  assert.deepEqual(look.observe(), []);
  write("aer_dev_correctable", counters({ RxErr: 1, BadTLP: 5 }, "TOTAL_ERR_COR").replace(/1\n$/, "6\n"));
  write("aer_dev_nonfatal", counters({ CmpltTO: 1 }, "TOTAL_ERR_NONFATAL"));
  write("current_link_width", "2");
  write("power_state", "D3hot");
  const seen = look.observe();
  assert.deepEqual(seen, [
    {
      type: "aer",
      address,
      severity: "correctable",
      errors: { RECEIVER_ERROR: 1, BAD_TLP: 3 },
      first: undefined,
      packet: undefined,
    },
    {
      type: "aer",
      address,
      severity: "nonfatal",
      errors: { COMPLETION_TIMEOUT: 1 },
      first: undefined,
      packet: undefined,
    },
    { type: "power", address, state: "D3hot", before: "D0" },
  ]);
  // Its link is not read while it sleeps, and is no change when it wakes.
  write("power_state", "D0");
  assert.deepEqual(
    look.observe().map(({ type }) => type),
    ["power"],
  );
  write("current_link_speed", "2.5 GT/s PCIe");
  assert.deepEqual(look.observe(), [
    { type: "link", address, link: { speed: "2.5 GT/s PCIe", width: 2 }, before: { speed: "8.0 GT/s PCIe", width: 2 } },
  ]);
  // A function of the same address that counts from the start again.
  write("aer_dev_correctable", "RxErr 0\nBadTLP 0\nTOTAL_ERR_COR 0\n");
  assert.deepEqual(look.observe(), []);
  write("aer_dev_correctable", "RxErr 0\nBadTLP 4\nTOTAL_ERR_COR 4\n");
  look.observe();
  write("aer_dev_correctable", "RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n");
  assert.deepEqual(
    look.observe().map((event) => event.type === "aer" && event.errors),
    [{ RECEIVER_ERROR: 1, BAD_TLP: 2 }],
  );
  fake.remove(address);
  assert.deepEqual(look.observe(), []);
});

test("without counters the function's own registers are read, with the packet while it is valid", () => {
  using fake = new FakeMachine([{ address }]);
  const bytes = new Uint8Array(4096);
  const config = new ConfigSpace(bytesConfigAccess(bytes));
  bytes.set([0x36, 0x1b, 0x10, 0x00]);
  config.write32(0x100, 0x0001_0001);
  const save = (): void => writeFileSync(join(fake.paths.sysfsRoot, "bus/pci/devices", address, "config"), bytes);
  save();
  using look = new FunctionLook(fake.paths);
  const status = Aer.UNCORRECTABLE_ERROR_STATUS.fields;
  config.writeRaw(Aer.CORRECTABLE_ERROR_STATUS, Aer.CORRECTABLE_ERROR_STATUS.fields.BAD_TLP.mask);
  config.writeRaw(Aer.UNCORRECTABLE_ERROR_STATUS, status.COMPLETION_TIMEOUT.mask | status.MALFORMED_TLP.mask);
  config.writeRaw(Aer.UNCORRECTABLE_ERROR_SEVERITY, status.MALFORMED_TLP.mask);
  config.writeRaw(Aer.CAPABILITIES_AND_CONTROL, status.MALFORMED_TLP.offset);
  for (const [at, dword] of [0x00000001, 0x0100000f, 0xfee00000].entries()) config.write32(0x11c + at * 4, dword);
  save();
  const seen = look.observe();
  const aer = (severity: string, errors: object, first?: string) => ({ type: "aer", address, severity, errors, first });
  assert.deepEqual(
    seen.map(({ packet: _packet, ...rest }: any) => rest),
    [
      aer("correctable", { BAD_TLP: 1 }),
      aer("nonfatal", { COMPLETION_TIMEOUT: 1 }, "MALFORMED_TLP"),
      aer("fatal", { MALFORMED_TLP: 1 }, "MALFORMED_TLP"),
    ],
  );
  const [, , fatal] = seen;
  assert.ok(fatal?.type === "aer");
  assert.equal(fatal.packet?.header?.requester, "01:00.0");
  assert.deepEqual(look.observe(), []);
  assert.deepEqual(look.blindSpots().filter((text) => text.startsWith("error counters")).length, 1);
});

test("headers of the kernel's log, by the device that the record names", () => {
  const text = "vfio-pci 0000:05:00.0: AER:   TLP Header: 04000001 0000220f 01070000 00000000";
  const dwords = [0x04000001, 0x0000220f, 0x01070000, 0];
  assert.deepEqual(parseLoggedHeader(`3,1021,5140900,-;${text}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:06:00.0\n`), {
    address: "0000:06:00.0",
    dwords,
  });
  assert.deepEqual(parseLoggedHeader(`3,1021,5140900,-;${text}\n`), { address: "0000:05:00.0", dwords });
  const prefixed = text.replaceAll(/ (?=[0-9a-f]{8})/g, " 0x");
  assert.deepEqual(parseLoggedHeader(`3,1,1,-;${prefixed}\n`)?.dwords, dwords, "as newer kernels print it");
  assert.equal(parseLoggedHeader("3,1,1,-;vfio-pci 0000:05:00.0: TLP Header: 04000001 0000220f"), undefined);
  assert.equal(parseLoggedHeader("3,1,1,-;TLP Header: 04000001 0000220f 01070000 00000000\n DEVICE=c1:3"), undefined);
});

test("the watch gives events and changes in their order, of the chosen functions only, and ends", async () => {
  const { fake, write } = machine();
  using _ = fake;
  using look = new FunctionLook(fake.paths, [address]);
  const happening: HostEvent[] = [
    { type: "added", address: "0000:02:00.0" },
    { type: "node-added", node: "/dev/vfio/3", address: undefined },
    { type: "bound", address, driver: "nvme" },
    { type: "error", address, phase: "BEGIN_RECOVERY" },
  ];
  const stop = new AbortController();
  let ticks = 0;
  const events = new HostEvents(
    Object.assign(
      (async function* () {
        for (const event of happening) {
          write("aer_dev_fatal", "DLP 1\nTOTAL_ERR_FATAL 1\n");
          yield { type: "event" as const, event: uevent(event) };
        }
        await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
      })(),
      { [Symbol.dispose]: () => undefined },
    ),
  );
  const wait = async (): Promise<void> => {
    if (++ticks > 1) stop.abort();
    await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
    if (stop.signal.aborted) throw new Error("aborted");
  };
  const seen: string[] = [];
  for await (const event of watchFunctions({ look, events, wait, signal: stop.signal })) seen.push(event.type);
  assert.deepEqual(seen, ["bound", "error", "aer"]);
});

function uevent(event: HostEvent) {
  const properties: Record<string, string> =
    "address" in event && event.address !== undefined ? { PCI_SLOT_NAME: event.address } : {};
  const of = (action: string, more: Record<string, string> = {}) => ({
    action,
    subsystem: "pci",
    devpath: "/devices/x",
    properties: { ...properties, ...more },
  });
  switch (event.type) {
    case "added":
      return of("add");
    case "bound":
      return of("bind", { DRIVER: event.driver ?? "" });
    case "error":
      return of("change", { ERROR_EVENT: event.phase });
    default:
      return {
        action: "add",
        subsystem: "vfio",
        devpath: "/devices/virtual/vfio/3",
        properties: { DEVNAME: "vfio/3" },
      };
  }
}
