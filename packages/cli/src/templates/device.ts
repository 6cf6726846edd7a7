// What `ring3 new device NAME` writes: a device that has one of everything (registers, DMA, an interrupt, reset), its test
// in process, and how to go on.
import type { ScaffoldName } from "./scaffold.ts";

export function deviceFiles({ name, pascalName }: ScaffoldName): Readonly<Record<string, string>> {
  return {
    "device.ts": `// A PCI device in TypeScript: it adds up the bytes of a buffer in its user's memory and raises an interrupt when done.
// ring3 serve ./device.ts --socket /tmp/${name}.sock
import type { BarIndex } from "ring3/pci";
import { handled, msix, pcie, VirtualFunction } from "ring3/virtual";

/** Registers of BAR 0, each of 32 bits. */
export const Register = {
  /** Read: 0x72330001. */
  IDENTIFICATION: 0x00,
  /** Write 1: add up. */
  COMMAND: 0x04,
  /** Read: one of Status. */
  STATUS: 0x08,
  /** Read: the sum modulo 2^32. */
  RESULT: 0x0c,
  /** Where the buffer is, as the device sees it. */
  ADDRESS_LOW: 0x10,
  ADDRESS_HIGH: 0x14,
  /** Its bytes. */
  LENGTH: 0x18,
} as const;

export const Status = { IDLE: 0, DONE: 1, FAILED: 2 } as const;

const IDENTIFICATION = 0x7233_0001;
const MAXIMUM_LENGTH = 1024 * 1024;
const ALL_ONES = 0xffff_ffff;

export class ${pascalName}Device extends VirtualFunction {
  #status: number = Status.IDLE;
  #result = 0;
  #addressLow = 0;
  #addressHigh = 0;
  #length = 0;

  constructor() {
    super({
      name: "${name}",
      vendorId: 0x1234,
      deviceId: 0x5a5a,
      classCode: 0xff_00_00,
      bars: { 0: handled(4096) },
      capabilities: [pcie(), msix({ vectors: 1, table: { bar: 4 } })],
    });
  }

  protected override read32(_bar: BarIndex, offset: number): number {
    switch (offset) {
      case Register.IDENTIFICATION:
        return IDENTIFICATION;
      case Register.STATUS:
        return this.#status;
      case Register.RESULT:
        return this.#result;
      case Register.ADDRESS_LOW:
        return this.#addressLow;
      case Register.ADDRESS_HIGH:
        return this.#addressHigh;
      case Register.LENGTH:
        return this.#length;
      default:
        return ALL_ONES;
    }
  }

  protected override write32(_bar: BarIndex, offset: number, value: number): void {
    switch (offset) {
      case Register.ADDRESS_LOW:
        this.#addressLow = value;
        break;
      case Register.ADDRESS_HIGH:
        this.#addressHigh = value;
        break;
      case Register.LENGTH:
        this.#length = value;
        break;
      case Register.COMMAND:
        if (value === 1) this.#addUp();
    }
  }

  /** Registers go back to what they are after power on. */
  protected override onReset(): void {
    this.#status = Status.IDLE;
    this.#result = 0;
    this.#addressLow = 0;
    this.#addressHigh = 0;
    this.#length = 0;
  }

  #addUp(): void {
    try {
      // A driver may write anything here: what it asks for is checked before memory is taken for it.
      if (this.#length > MAXIMUM_LENGTH) throw new RangeError("LENGTH is too large");
      const bytes = new Uint8Array(this.#length);
      // DMA: only what the driver has mapped can be read; anything else throws.
      this.memory.read(this.#addressHigh * 2 ** 32 + this.#addressLow, bytes);
      this.#result = bytes.reduce((sum, byte) => (sum + byte) >>> 0, 0);
      this.#status = Status.DONE;
    } catch {
      this.#status = Status.FAILED;
    }
    this.interrupts.raise(0);
  }
}

/** What \`ring3 serve\` looks for. */
export const device: typeof ${pascalName}Device = ${pascalName}Device;
`,
    "device.test.ts": `// The device without a socket, a guest or root: a driver's view of it, in this process. Run it with: node --test
import assert from "node:assert/strict";
import test from "node:test";
import { inProcess } from "ring3/virtual";
import { ${pascalName}Device, Register, Status } from "./device.ts";

test("it adds up a buffer and raises its interrupt", async () => {
  await using fn = inProcess(new ${pascalName}Device());
  fn.busMaster = true;
  const registers = fn.bar(0).registers();
  assert.equal(registers.read32(Register.IDENTIFICATION), 0x7233_0001);

  using buffer = fn.dma.allocate(4096);
  buffer.bytes.set([1, 2, 3, 250]);
  const [done] = fn.interrupts.msix(1);
  registers.write32(Register.ADDRESS_LOW, buffer.iova % 2 ** 32);
  registers.write32(Register.ADDRESS_HIGH, Math.floor(buffer.iova / 2 ** 32));
  registers.write32(Register.LENGTH, 4);
  registers.write32(Register.COMMAND, 1);
  await done?.next({ timeoutMs: 1000 });
  assert.equal(registers.read32(Register.STATUS), Status.DONE);
  assert.equal(registers.read32(Register.RESULT), 256);
});

test("memory that nobody mapped is a failure, not a sum", async () => {
  await using fn = inProcess(new ${pascalName}Device());
  fn.busMaster = true;
  const registers = fn.bar(0).registers();
  registers.write32(Register.ADDRESS_LOW, 0x1000);
  registers.write32(Register.LENGTH, 4);
  registers.write32(Register.COMMAND, 1);
  assert.equal(registers.read32(Register.STATUS), Status.FAILED);
});
`,
    "README.md": `# ${name}

A PCI device in TypeScript. \`device.ts\` is the device, \`device.test.ts\` its test in process.

\`\`\`sh
node --test                                             # no root, no guest, no socket
ring3 serve ./device.ts --socket /tmp/${name}.sock      # serve it; Ctrl-C ends it
ring3 info vfio-user:/tmp/${name}.sock                  # what a driver sees
\`\`\`

A guest gets it with QEMU >= 10.1 (memory must be shared):

\`\`\`sh
qemu-system-x86_64 -M q35,memory-backend=ram -object memory-backend-memfd,id=ram,size=1G,share=on \\
  -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"/tmp/${name}.sock"}}' ...
\`\`\`

\`ring3 new driver NAME\` writes a driver for it.
`,
  };
}
