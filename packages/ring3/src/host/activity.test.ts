import assert from "node:assert/strict";
import test from "node:test";
import { parseInterrupts, readActivity } from "./activity.ts";
import { FakeMachine } from "./fake-machine.ts";

/** As three kernels print it: with and without the number at the controller, and what is no device's interrupt. */
const INTERRUPTS = `           CPU0       CPU1
  0:         35          0  IR-IO-APIC    2-edge      timer
 16:          4          6  IR-IO-APIC   16-fasteoi   ehci_hcd:usb1, vfio-intx(0000:02:00.0)
 40:        100         11 IR-PCI-MSIX-0000:01:00.0    0-edge      nvme0q0
 41:          0    1234567  PCI-MSI 524289-edge      nvme0q1
NMI:          3          0   Non-maskable interrupts
ERR:          0
 99: 1 x  PCI-MSI 1-edge odd
`;

test("interrupts: counts of all processors, and who handles them", () => {
  const counts = parseInterrupts(INTERRUPTS);
  assert.deepEqual(
    [...counts.values()].map(({ irq, name, count }) => [irq, name, count]),
    [
      [0, "timer", 35],
      [16, "ehci_hcd:usb1, vfio-intx(0000:02:00.0)", 10],
      [40, "nvme0q0", 111],
      [41, "nvme0q1", 1234567],
    ],
  );
  assert.deepEqual(parseInterrupts("").size, 0);
});

test("activity: a function's messages, or its line; errors, power, link", () => {
  using machine = new FakeMachine([
    {
      address: "0000:01:00.0",
      driver: "nvme",
      attributes: {
        "msi_irqs/41": "msix",
        "msi_irqs/40": "msix",
        irq: "16",
        aer_dev_correctable: "BadTLP 2\nTOTAL_ERR_COR 2",
        aer_dev_fatal: "TOTAL_ERR_FATAL 1",
        current_link_speed: "8.0 GT/s PCIe",
        current_link_width: "4",
      },
    },
    { address: "0000:02:00.0", attributes: { irq: "16", power_state: "D3hot", current_link_speed: "8.0 GT/s PCIe" } },
    { address: "0000:03:00.0", attributes: { irq: "0" } },
  ]);
  machine.file("proc/interrupts", INTERRUPTS);
  const [disk, line, none] = readActivity(machine.paths);
  assert.deepEqual(
    disk?.interrupts.map(({ irq }) => irq),
    [40, 41],
  );
  assert.deepEqual([disk.driver, disk.power, disk.link], ["nvme", "D0", { speed: "8.0 GT/s PCIe", width: 4 }]);
  assert.deepEqual(disk.errors, { correctable: 2, nonfatal: 0, fatal: 1 });
  assert.deepEqual(
    [line?.interrupts.map(({ count }) => count), line?.link, line?.errors],
    [[10], undefined, undefined],
  );
  assert.deepEqual(none?.interrupts, []);
  assert.deepEqual(readActivity(machine.paths, ["0000:09:00.0"]), []);
});
