// ring3 edu: QEMU's educational device, driven step by step: what a driver does, as a small lesson.
import { type Command, command } from "../command.ts";
import { OPEN_OPTIONS, openFunction } from "../open-function.ts";
import { columns, hex } from "../text.ts";

const LIVENESS_VALUE = 0x1234_5678;
const EDU_BUFFER_BYTES = 4096n;

export const edu: Command = command({
  summary: "drive QEMU's educational device, as a small lesson",
  description: "Registers, an interrupt and DMA in both directions: what every driver is made of.",
  operands: [{ name: "ADDRESS", description: "an edu device (1234:11e8), or vfio-user:PATH" }],
  options: {
    factorial: {
      kind: "integer",
      value: "N",
      maximum: 0xffff_ffffn,
      initial: 12n,
      description: "compute N factorial modulo 2^32",
    },
    dma: {
      kind: "integer",
      value: "BYTES",
      minimum: 1n,
      maximum: EDU_BUFFER_BYTES,
      initial: EDU_BUFFER_BYTES,
      description: "bytes of the DMA round trip",
    },
    completion: {
      kind: "choice",
      choices: ["msi", "intx", "poll"],
      description: "how to learn that the device is done (default: the best it has)",
    },
    ...OPEN_OPTIONS,
  },
  examples: [
    { command: "ring3 edu 02:00.0", text: "the whole lesson" },
    { command: "ring3 edu 02:00.0 --factorial 5 --completion intx", text: "5! with the line interrupt" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = ""] = operands;
    await using fn = await openFunction(address, options, context);
    const { EduDriver } = await import("ring3/edu");
    const completion = options.completion as "msi" | "intx" | "poll" | undefined;
    await using driver = await context.unlessAborted(
      EduDriver.start(fn, completion === undefined ? {} : { completion }),
    );
    const version = driver.version();
    const liveness = driver.liveness(LIVENESS_VALUE);
    const n = Number(options.factorial);
    const [factorial, factorialMs] = await timed(context.unlessAborted(driver.factorial(n)));
    const sent = Uint8Array.from({ length: Number(options.dma) }, (_, index) => (index * 7 + (index >>> 8)) & 0xff);
    const [, storeMs] = await timed(context.unlessAborted(driver.store(0, sent)));
    const [received, loadMs] = await timed(context.unlessAborted(driver.load(0, sent.length)));
    const identical = sent.every((byte, index) => byte === received[index]);
    const value = {
      address: fn.identity.address,
      backend: fn.identity.backend,
      version,
      liveness: { wrote: LIVENESS_VALUE, read: liveness, alive: liveness === ~LIVENESS_VALUE >>> 0 },
      completion: driver.completion,
      factorial: { n, result: factorial, tookMs: factorialMs },
      dma: { bytes: sent.length, storeMs, loadMs, identical },
    };
    const { style } = context;
    context.result(value, () => {
      const how = {
        msi: "an MSI, a message that the device writes to memory",
        intx: "INTx, a wire that stays up until it is acknowledged",
        poll: "looking, no interrupt at all",
      };
      const good = (ok: boolean): string => (ok ? style.green("as it should be") : style.red("WRONG"));
      const rows = [
        [
          "identification",
          `edu ${version.major}.${version.minor} at ${value.address}, opened through ${value.backend}`,
        ],
        [
          "liveness",
          `wrote ${hex(LIVENESS_VALUE, 8)}, read ${hex(liveness, 8)}: every bit inverted, ${good(value.liveness.alive)}`,
        ],
        ["completion", `learned by ${how[driver.completion]}`],
        ["factorial", `${n}! = ${factorial} modulo 2^32, after ${factorialMs.toFixed(2)} ms`],
        ["DMA to the device", `${sent.length} bytes in ${storeMs.toFixed(2)} ms: the device read our memory by itself`],
        ["DMA to memory", `${sent.length} bytes in ${loadMs.toFixed(2)} ms: it wrote them back, ${good(identical)}`],
      ];
      return columns(rows);
    });
    if (!value.liveness.alive || !identical) throw new Error("the device answered wrongly, as shown above");
  },
});

async function timed<T>(work: Promise<T>): Promise<[result: T, tookMs: number]> {
  const start = performance.now();
  const result = await work;
  return [result, performance.now() - start];
}
