// BARs whose size software chooses. PCIe 6.0, section 7.8.6: writing BAR_SIZE changes at once how many address bits the BAR
// has. A size that the BAR does not offer is not taken.
import { Ring3Error } from "../../binary/error.ts";
import { ResizableBar } from "../../pci/capabilities/resizable-bar.ts";
import type { BarIndex } from "../../pci/function.ts";
import type { Register } from "../../pci/register.ts";
import type { CapabilityBuilder, CapabilityPlace } from "../capability-builder.ts";

/** One BAR and the sizes that it offers, in bytes: powers of two from 1 MiB to 2^63; the declared size is the first one. */
export interface ResizableBarDeclaration {
  readonly bar: BarIndex;
  readonly sizes: readonly number[];
}

export interface ResizableBarOptions {
  readonly at?: number;
  /** One to six, in ascending order of their index. */
  readonly bars: readonly ResizableBarDeclaration[];
}

const pairs = [
  [ResizableBar.CAPABILITY_0, ResizableBar.CONTROL_0],
  [ResizableBar.CAPABILITY_1, ResizableBar.CONTROL_1],
  [ResizableBar.CAPABILITY_2, ResizableBar.CONTROL_2],
  [ResizableBar.CAPABILITY_3, ResizableBar.CONTROL_3],
  [ResizableBar.CAPABILITY_4, ResizableBar.CONTROL_4],
  [ResizableBar.CAPABILITY_5, ResizableBar.CONTROL_5],
] as const;

/** The encoding of a size: 0 is 1 MiB. Throws `DECLARATION_INVALID`. */
function encodeSize(bar: BarIndex, size: number): number {
  const encoded = Math.round(Math.log2(size)) - 20;
  if (size !== 2 ** (20 + encoded) || encoded < 0 || encoded > 43) {
    throw new Ring3Error(
      "DECLARATION_INVALID",
      `BAR ${bar} cannot be resized to ${size} bytes: take powers of two from 1 MiB`,
    );
  }
  return encoded;
}

/** Resizable BARs. Throws `DECLARATION_INVALID`; the function hears of each new size through its listener. */
export function rebar(options: ResizableBarOptions): CapabilityBuilder {
  const { bars } = options;
  if (bars.length < 1 || bars.length > 6) {
    throw new Ring3Error("DECLARATION_INVALID", `REBAR resizes one to six BARs, not ${bars.length}`);
  }
  for (const [index, { bar }] of bars.entries()) {
    const previous = bars[index - 1]?.bar ?? -1;
    if (bar <= previous) {
      throw new Ring3Error("DECLARATION_INVALID", `REBAR names BAR ${bar} after BAR ${previous}: sort them, each once`);
    }
  }
  const encoded = bars.map(({ bar, sizes }) => sizes.map((size) => encodeSize(bar, size)));
  return {
    group: ResizableBar,
    size: 4 + 8 * bars.length,
    ...(options.at === undefined ? {} : { at: options.at }),
    check(declared) {
      for (const { bar, sizes } of bars) {
        const size = declared.bars[bar]?.size;
        if (size === undefined) {
          throw new Ring3Error("BAR_CONFLICT", `REBAR resizes BAR ${bar}, which the function does not have`);
        }
        const { kind = "memory32" } = declared.bars[bar] ?? {};
        if (kind === "io") throw new Ring3Error("BAR_CONFLICT", `REBAR resizes BAR ${bar}, which is I/O`);
        if (!sizes.includes(size)) {
          throw new Ring3Error(
            "BAR_CONFLICT",
            `REBAR does not list the ${size} bytes that BAR ${bar} is declared with`,
          );
        }
        if (kind === "memory32" && sizes.some((one) => one > 2 ** 31)) {
          throw new Ring3Error("BAR_CONFLICT", `REBAR offers sizes that BAR ${bar} cannot name; make it memory64`);
        }
      }
    },
    build(place) {
      for (const [index, { bar }] of bars.entries()) {
        const pair = pairs[index];
        if (pair !== undefined) buildPair(place, pair, bar, encoded[index] ?? [], index === 0 ? bars.length : 0);
      }
    },
  };
}

function buildPair(
  place: CapabilityPlace,
  [capability, control]: (typeof pairs)[number],
  bar: BarIndex,
  sizes: readonly number[],
  count: number,
): void {
  let low = 0;
  let high = 0;
  for (const size of sizes) {
    if (size < 28) low |= 1 << size;
    else high |= 1 << (size - 28);
  }
  const declared = encodeSize(bar, place.bars[bar]?.size ?? 0);
  place.preset(capability, { SIZES: low >>> 0 });
  place.preset(control, {
    BAR_INDEX: bar,
    NUMBER_OF_RESIZABLE_BARS: count,
    BAR_SIZE: declared,
    UPPER_SIZES: high,
  });
  place.constant(capability);
  place.constant(control);
  const { BAR_SIZE } = control.fields;
  const follow = (register: Register): void => {
    const chosen = BAR_SIZE.get(place.read(register));
    // A saved state may hold a size that the BAR does not offer.
    if (sizes.includes(chosen)) place.resizeBar(bar, 2 ** (20 + chosen));
    else place.set(control, { BAR_SIZE: declared });
  };
  place.guard(control, ({ before, value }) => (sizes.includes(BAR_SIZE.get(value)) ? value : before));
  place.onWrite(control, () => follow(control));
  place.afterReset(() => follow(control));
}
