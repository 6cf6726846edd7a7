// What `ring3 new driver NAME` writes: a driver for the device of `ring3 new device`, a program that runs it, and a test
// against a model of the device in process.
import type { ScaffoldName } from "./scaffold.ts";

export function driverFiles({ name, pascalName }: ScaffoldName): Readonly<Record<string, string>> {
  return {
    "driver.ts": `// A PCI driver in TypeScript. It takes a PciFunction and knows nothing of what stands behind it: hardware, a socket, a
// model in process.
import type { DmaBuffer, Interrupt, PciFunction, Registers } from "ring3";

/** Registers of BAR 0, each of 32 bits, as the device's data sheet says. */
const Register = {
  IDENTIFICATION: 0x00,
  COMMAND: 0x04,
  STATUS: 0x08,
  RESULT: 0x0c,
  ADDRESS_LOW: 0x10,
  ADDRESS_HIGH: 0x14,
  LENGTH: 0x18,
} as const;
const IDENTIFICATION = 0x7233_0001;
const DONE = 1;
const BUFFER_BYTES = 65_536;
const TIMEOUT_MS = 2000;

export class ${pascalName}Driver implements AsyncDisposable {
  readonly #fn: PciFunction;
  readonly #registers: Registers;
  readonly #buffer: DmaBuffer;
  readonly #done: Interrupt;

  private constructor(fn: PciFunction, registers: Registers, buffer: DmaBuffer, done: Interrupt) {
    this.#fn = fn;
    this.#registers = registers;
    this.#buffer = buffer;
    this.#done = done;
  }

  /** Takes the function over; whoever opened it closes it. */
  static async start(fn: PciFunction): Promise<${pascalName}Driver> {
    const registers = fn.bar(0).registers();
    const found = registers.read32(Register.IDENTIFICATION);
    if (found !== IDENTIFICATION) throw new Error(\`\${fn.identity.address} identifies as 0x\${found.toString(16)}\`);
    await fn.reset();
    // Memory that the device can reach: its address there is \`iova\`, its bytes here are \`bytes\`.
    const buffer = fn.dma.allocate(BUFFER_BYTES);
    const [done] = fn.interrupts.msix(1);
    if (done === undefined) throw new Error("the device offers no MSI-X vector");
    fn.busMaster = true;
    return new ${pascalName}Driver(fn, registers, buffer, done);
  }

  /** The sum of \`bytes\` modulo 2^32, added up by the device. */
  async addUp(bytes: Uint8Array): Promise<number> {
    this.#buffer.bytes.set(bytes);
    this.#registers.write32(Register.ADDRESS_LOW, this.#buffer.iova % 2 ** 32);
    this.#registers.write32(Register.ADDRESS_HIGH, Math.floor(this.#buffer.iova / 2 ** 32));
    this.#registers.write32(Register.LENGTH, bytes.length);
    this.#registers.write32(Register.COMMAND, 1);
    await this.#done.next({ timeoutMs: TIMEOUT_MS, signal: this.#fn.gone });
    const status = this.#registers.read32(Register.STATUS);
    if (status !== DONE) throw new Error(\`the device failed with status \${status}\`);
    return this.#registers.read32(Register.RESULT);
  }

  /** Stops the device before its memory goes. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#fn.interrupts.disable();
    if (!this.#fn.gone.aborted) this.#fn.busMaster = false;
    this.#buffer[Symbol.dispose]();
    return Promise.resolve();
  }
}
`,
    "main.ts": `// Runs the driver: node main.ts ADDRESS [TEXT], where ADDRESS is vfio-user:/tmp/x.sock or a PCI address as 01:00.0.
import { open } from "ring3";
import { ${pascalName}Driver } from "./driver.ts";

const [address, text = "hello"] = process.argv.slice(2);
if (address === undefined) {
  console.error("usage: node main.ts ADDRESS [TEXT]");
  process.exit(2);
}
await using fn = await open(address);
await using driver = await ${pascalName}Driver.start(fn);
console.log(\`the bytes of "\${text}" add up to \${await driver.addUp(new TextEncoder().encode(text))}\`);
`,
    "driver.test.ts": `// The driver against a model of the device, in this process. Run it with: node --test
import assert from "node:assert/strict";
import test from "node:test";
import { inProcess, msix, pcie, VirtualFunction } from "ring3/virtual";
import { ${pascalName}Driver } from "./driver.ts";

/** As much of the device as the driver needs: it counts bytes, or fails where it is told to. */
function model({ fails = false }: { readonly fails?: boolean } = {}): VirtualFunction {
  const registers = new Uint32Array(64);
  registers[0] = 0x7233_0001;
  const fn: VirtualFunction = new VirtualFunction({
    vendorId: 0x1234,
    deviceId: 0x5a5a,
    classCode: 0xff_00_00,
    bars: {
      0: {
        size: 4096,
        read32: (offset) => registers[offset / 4] ?? 0xffff_ffff,
        write32: (offset, value) => {
          registers[offset / 4] = value;
          if (offset !== 4) return;
          const bytes = new Uint8Array(registers[6] ?? 0);
          fn.memory.read((registers[5] ?? 0) * 2 ** 32 + (registers[4] ?? 0), bytes);
          registers[2] = fails ? 2 : 1;
          registers[3] = bytes.reduce((sum, byte) => sum + byte, 0);
          fn.interrupts.raise(0);
        },
      },
    },
    capabilities: [pcie(), msix({ vectors: 1, table: { bar: 4 } })],
  });
  return fn;
}

test("it adds up", async () => {
  await using fn = inProcess(model());
  await using driver = await ${pascalName}Driver.start(fn);
  assert.equal(await driver.addUp(Uint8Array.of(1, 2, 3)), 6);
  assert.equal(await driver.addUp(new Uint8Array(1000).fill(255)), 255_000);
});

test("a device that fails is an error", async () => {
  await using fn = inProcess(model({ fails: true }));
  await using driver = await ${pascalName}Driver.start(fn);
  await assert.rejects(driver.addUp(Uint8Array.of(1)), /failed with status 2/);
});
`,
    "README.md": `# ${name}

A PCI driver in TypeScript. \`driver.ts\` is the driver, \`main.ts\` a program that runs it, \`driver.test.ts\` its test
against a model of the device in process.

\`\`\`sh
node --test                                # no root, no guest, no device
node main.ts vfio-user:/tmp/device.sock    # against a device that ring3 serve serves
node main.ts 01:00.0                       # against hardware that ring3 bind gave you
\`\`\`

\`ring3 new device NAME\` writes the device that it drives.
`,
  };
}
