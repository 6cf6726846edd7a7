// ring3 peek and ring3 poke: single register accesses on an open function.
import type { PciFunction } from "ring3";
import { type Command, command } from "../command.ts";
import { OPEN_OPTIONS, openFunction } from "../open-function.ts";
import {
  barsOf,
  enableDecoding,
  parseRegisterPlace,
  type RegisterPlace,
  readPlace,
  writePlace,
} from "../register-place.ts";
import { hex } from "../text.ts";
import { UsageError } from "../usage-error.ts";

const ADDRESS = { name: "ADDRESS", description: "the function, as 0000:01:00.0, 01:00.0 or vfio-user:PATH" } as const;
const WIDTHS = ".b .w .l .q are 1, 2, 4 and 8 bytes, .l where nothing is said";

export const peek: Command = command({
  summary: "read device registers",
  description:
    "Opens the function, which resets it if nobody else has it, and reads each place by one access of its width. " +
    "Reading may act: some registers clear when they are read.",
  operands: [
    ADDRESS,
    { name: "PLACE", description: `bar0+0x14, bar2+8.w, config+0x40.b, rom+0; ${WIDTHS}`, variadic: true },
  ],
  options: {
    ...OPEN_OPTIONS,
    count: {
      kind: "integer",
      short: "c",
      value: "N",
      initial: 1n,
      minimum: 1n,
      maximum: 65536n,
      description: "registers from each place on",
    },
  },
  examples: [
    { command: "ring3 peek 01:00.0 bar0+0x1c", text: "NVMe's controller status" },
    {
      command: "ring3 peek vfio-user:/run/disk.sock bar0.q bar0+8.l",
      text: "capabilities and version of a served disk",
    },
    { command: "ring3 peek 01:00.0 bar0 --count 16", text: "the first sixteen registers" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", ...texts] = operands;
    const places = texts.map(parseRegisterPlace);
    const writing = places.find(({ value }) => value !== undefined);
    if (writing !== undefined) throw new UsageError(`"${writing.text}" writes: that is ring3 poke`);
    if (places.length === 0) throw new UsageError("PLACE is missing: what shall be read, as bar0+0x14");
    const count = Number(options.count);
    await using fn = await openFunction(address, options, context);
    enableDecoding(fn, barsOf(places));
    const values = places.flatMap((place) =>
      Array.from({ length: count }, (_, index) => ({
        place: place.text,
        area: nameOf(place),
        offset: place.offset + index * place.width,
        width: place.width,
        value: readPlace(fn, place, index),
      })),
    );
    context.result({ address, values }, () =>
      values
        .map(({ area, offset, width, value }) => {
          const digits = `0x${hex(value, width * 2)}`;
          return values.length === 1 ? digits : `${area}+0x${hex(offset)}: ${digits}`;
        })
        .join("\n"),
    );
  },
});

export const poke: Command = command({
  summary: "write device registers",
  description:
    "Opens the function and writes each value by one access; with a mask, what is there is read first. The function is " +
    "reset when the command closes it, so a change lasts for this command: give several places to write them in order, " +
    "and places without a value to read in between.",
  operands: [
    ADDRESS,
    {
      name: "PLACE",
      description: `bar0+0x14=VALUE, bar0+0x14.w=VALUE:MASK (decimal or 0x); ${WIDTHS}`,
      variadic: true,
    },
  ],
  options: { ...OPEN_OPTIONS, yes: { kind: "flag", short: "y", description: "write without further ado" } },
  examples: [
    {
      command: "ring3 poke 01:00.0 bar0+0x14=0x460001 bar0+0x1c --yes",
      text: "enable an NVMe controller, read its status",
    },
    {
      command: "ring3 poke vfio-user:/tmp/edu.sock bar0+4=0x5a5a5a5a bar0+4 --yes",
      text: "edu answers with every bit inverted",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [address = "", ...texts] = operands;
    const places = texts.map(parseRegisterPlace);
    if (!places.some(({ value }) => value !== undefined)) {
      throw new UsageError("nothing to write: give a place a value, as bar0+0x14=1; ring3 peek reads");
    }
    if (!options.yes)
      throw new UsageError("writing registers can lose data or hang the device: say --yes if you mean it");
    await using fn = await openFunction(address, options, context);
    enableDecoding(fn, barsOf(places));
    const steps = places.map((place) => access(fn, place));
    context.result({ address, steps }, () =>
      steps
        .map(({ place, value, before, written, width }) => {
          if (written === undefined) return `${place}: 0x${hex(value ?? 0n, width * 2)}`;
          return `${place}: ${before === undefined ? "" : `0x${hex(before, width * 2)} -> `}0x${hex(written, width * 2)}`;
        })
        .join("\n"),
    );
  },
});

function access(fn: PciFunction, place: RegisterPlace) {
  const { text, width, value, mask } = place;
  if (value === undefined)
    return { place: text, width, value: readPlace(fn, place), before: undefined, written: undefined };
  const before = mask === undefined ? undefined : readPlace(fn, place);
  const written = before === undefined || mask === undefined ? value : (before & ~mask) | (value & mask);
  writePlace(fn, place, written);
  return { place: text, width, value: undefined, before, written };
}

function nameOf({ area, bar }: RegisterPlace): string {
  return area === "bar" ? `bar${bar}` : area;
}
