// A reset is told by what it loses, and what it lost is given back.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PciExpress } from "./capabilities/pci-express.ts";
import { ConfigSpace } from "./config-space.ts";
import { Header, Header0 } from "./header.ts";
import { giveBack, readKept, wasReset } from "./kept-registers.ts";

const EXPRESS = 0x40;

/** An endpoint of PCI Express in bytes, and its reset: COMMAND, BARs and device control as after power-on. */
function endpoint(): { readonly config: ConfigSpace; readonly reset: () => void } {
  const view = new DataView(new ArrayBuffer(4096));
  view.setUint32(0, 0x1041_1af4, true);
  view.setUint16(6, 0x10, true);
  view.setUint8(0x34, EXPRESS);
  view.setUint32(EXPRESS, 0x0002_0010, true);
  const config = new ConfigSpace({
    size: 4096,
    read: (at, width) =>
      width === 4 ? view.getUint32(at, true) : width === 2 ? view.getUint16(at, true) : view.getUint8(at),
    write: (at, width, value) => {
      if (width === 4) view.setUint32(at, value, true);
      else if (width === 2) view.setUint16(at, value, true);
      else view.setUint8(at, value);
    },
  });
  const reset = (): void => {
    config.writeRaw(Header.COMMAND, 0);
    config.writeRaw(Header0.BAR0, 0);
    config.writeRaw(PciExpress.DEVICE_CONTROL, 0x2810);
  };
  return { config, reset };
}

const unexpected = (error: unknown): never => assert.fail(String(error));

test("what a reset took is given back, and nothing is told as lost then", () => {
  const { config, reset } = endpoint();
  config.write(Header.COMMAND, { MEMORY: 1, SERR_ENABLE: 1 });
  config.writeRaw(Header0.BAR0, 0xfe00_0000);
  config.writeRaw(PciExpress.DEVICE_CONTROL, 0x593f);
  const kept = readKept(config);
  assert.equal(wasReset(config, kept), false);
  reset();
  assert.equal(wasReset(config, kept), true);
  giveBack(config, kept, unexpected);
  assert.equal(wasReset(config, kept), false);
  assert.equal(config.readRaw(PciExpress.DEVICE_CONTROL), 0x593f);
  assert.equal(config.readRaw(Header0.BAR0), 0xfe00_0000);
  assert.deepEqual(config.read(Header.COMMAND).SERR_ENABLE, 1);
});

test("a driver that switches its function off has not reset it; where no errors are reported COMMAND has to tell", () => {
  const { config, reset } = endpoint();
  config.write(Header.COMMAND, { MEMORY: 1 });
  config.write(PciExpress.DEVICE_CONTROL, { FATAL_ERROR_REPORTING_ENABLE: 1 });
  const reporting = readKept(config);
  config.write(Header.COMMAND, { MEMORY: 0 });
  assert.equal(wasReset(config, reporting), false);
  config.write(Header.COMMAND, { MEMORY: 1 });
  config.write(PciExpress.DEVICE_CONTROL, { FATAL_ERROR_REPORTING_ENABLE: 0 });
  const silent = readKept(config);
  assert.equal(wasReset(config, silent), false);
  reset();
  assert.equal(wasReset(config, silent), true);
});
