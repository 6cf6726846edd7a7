// The filters of lspci: -s by address, -d by ids; fields that are left out or `*` match everything.
import type { LspciFunction } from "./function.ts";

interface Wanted {
  readonly domain?: number | undefined;
  readonly bus?: number | undefined;
  readonly device?: number | undefined;
  readonly function?: number | undefined;
  readonly vendorId?: number | undefined;
  readonly deviceId?: number | undefined;
  readonly classCode?: Masked | undefined;
  readonly programmingInterface?: number | undefined;
}

/** A number of which some digits do not matter. */
interface Masked {
  readonly value: number;
  readonly mask: number;
}

/** A filter that cannot be read; the message is lspci's. */
export class FilterError extends Error {}

const LONGEST = 64;

/** Which functions are to be shown. */
export class LspciFilter {
  readonly #wanted: Wanted;

  constructor(wanted: Wanted = {}) {
    this.#wanted = wanted;
  }

  /** From `[[[domain]:]bus]:][device][.[function]]` and `[vendor]:[device][:class[:prog-if]]`. Throws {@link FilterError}. */
  static parse({ slot, ids }: { readonly slot?: string | undefined; readonly ids?: string | undefined }): LspciFilter {
    return new LspciFilter({
      ...(slot === undefined ? {} : parseSlot(slot)),
      ...(ids === undefined ? {} : parseIds(ids)),
    });
  }

  matches(fn: LspciFunction): boolean {
    const { address } = fn;
    const { classCode, ...wanted } = this.#wanted;
    const pairs = [
      [wanted.domain, address.domain],
      [wanted.bus, address.bus],
      [wanted.device, address.device],
      [wanted.function, address.function],
      [wanted.vendorId, fn.vendorId],
      [wanted.deviceId, fn.deviceId],
      [wanted.programmingInterface, fn.programmingInterface],
    ] as const;
    if (pairs.some(([asked, actual]) => asked !== undefined && asked !== actual)) return false;
    return classCode === undefined || ((classCode.value ^ fn.classCode) & classCode.mask) === 0;
  }
}

function parseSlot(text: string): Wanted {
  const fields = split("-s", text, ":", 3);
  const [domain, bus] = [fields.at(-3), fields.at(-2)];
  const [device, fn, ...more] = (fields.at(-1) ?? "").split(".");
  if (more.length > 0) throw new FilterError("-s: Invalid slot/function number");
  return {
    domain: hexadecimal(domain, 0x7fffffff, "-s: Invalid domain number"),
    bus: hexadecimal(bus, 0xff, "-s: Invalid bus number"),
    device: hexadecimal(device, 0x1f, "-s: Invalid slot number"),
    function: hexadecimal(fn, 7, "-s: Invalid function number"),
  };
}

function parseIds(text: string): Wanted {
  const fields = split("-d", text, ":", 4);
  const [vendor, device, classCode, programmingInterface] = fields;
  if (fields.length < 2) throw new FilterError("-d: At least two fields must be given");
  return {
    vendorId: hexadecimal(vendor, 0xffff, "-d: Invalid vendor ID"),
    deviceId: hexadecimal(device, 0xffff, "-d: Invalid device ID"),
    classCode: masked(classCode, 0xffff, "-d: Invalid class code"),
    programmingInterface: hexadecimal(programmingInterface, 0xff, "-d: Invalid programming interface code"),
  };
}

function split(option: string, text: string, separator: string, limit: number): string[] {
  if (text.length >= LONGEST) throw new FilterError(`${option}: Expression too long`);
  const fields = text.split(separator);
  if (fields.length > limit) throw new FilterError(`${option}: Too many fields`);
  return fields;
}

function hexadecimal(text: string | undefined, limit: number, message: string): number | undefined {
  return masked(text?.replace(/^0x/i, "0"), limit, message, /^[0-9a-f]+$/i)?.value;
}

/** A digit `x` matches all. */
function masked(
  text: string | undefined,
  limit: number,
  message: string,
  digits = /^[0-9a-fx]+$/i,
): Masked | undefined {
  if (text === undefined || text === "" || text === "*") return undefined;
  // A digit that does not matter counts as one for the limit.
  const bound = Number.parseInt(text.replaceAll(/x/gi, "1"), 16);
  if (!digits.test(text) || bound > limit) throw new FilterError(message);
  const value = Number.parseInt(text.replaceAll(/x/gi, "0"), 16);
  const mask = Number.parseInt(text.replaceAll(/[^x]/gi, "f").replaceAll(/x/gi, "0"), 16);
  // Digits in front of those given matter as well.
  return { value, mask: mask | ~(16 ** text.length - 1) };
}
