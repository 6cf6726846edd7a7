// Choosing functions as pciutils does: `-s [[[domain]:][bus]:][device][.[function]]` and
// `-d [vendor]:[device][:class[:interface]]`. Parts that are empty or `*` match everything, an `x` in a class any digit.
import { Ring3Error } from "../binary/error.ts";
import type { PciAddress } from "./address.ts";

/** What `-s` and `-d` say; absent parts match everything. */
export interface FunctionFilter {
  readonly domain?: number | undefined;
  readonly bus?: number | undefined;
  readonly device?: number | undefined;
  readonly function?: number | undefined;
  readonly vendorId?: number | undefined;
  readonly deviceId?: number | undefined;
  /** Base class and subclass, 16 bits, and which of their bits count. */
  readonly class?: { readonly value: number; readonly mask: number } | undefined;
  readonly interface?: number | undefined;
}

/** What a filter looks at. */
export interface FilteredIds {
  readonly vendorId: number;
  readonly deviceId: number;
  /** 24 bits. */
  readonly classCode: number;
}

/** Reads what follows `-s`. Throws `FILTER_INVALID`. */
export function parseSlotFilter(text: string): FunctionFilter {
  const fields = text.split(":");
  const place = fields.pop() ?? "";
  const bus = fields.pop();
  const domain = fields.pop();
  const parts = place.split(".");
  if (fields.length > 0 || parts.length > 2) refuse("-s", text, "[[[domain]:][bus]:][device][.[function]]");
  const part = (name: string, field: string | undefined, limit: number): number | undefined =>
    hexField("-s", text, name, field, limit);
  return {
    domain: part("domain", domain, 0x7fffffff),
    bus: part("bus", bus, 0xff),
    device: part("device", parts[0], 0x1f),
    function: part("function", parts[1], 7),
  };
}

/** Reads what follows `-d`. Throws `FILTER_INVALID`. */
export function parseIdFilter(text: string): FunctionFilter {
  const fields = text.split(":");
  if (fields.length < 2 || fields.length > 4) refuse("-d", text, "[vendor]:[device][:class[:interface]]");
  const [vendor, device, classDigits, interface_] = fields;
  return {
    vendorId: hexField("-d", text, "vendor", vendor, 0xffff),
    deviceId: hexField("-d", text, "device", device, 0xffff),
    class: classField(text, classDigits),
    interface: hexField("-d", text, "interface", interface_, 0xff),
  };
}

/** Whether a function is chosen; `ids` is asked only where the filter needs them. */
export function matchesFilter(filter: FunctionFilter, address: PciAddress, ids: () => FilteredIds): boolean {
  const same = (wanted: number | undefined, value: number): boolean => wanted === undefined || wanted === value;
  if (!same(filter.domain, address.domain) || !same(filter.bus, address.bus)) return false;
  if (!same(filter.device, address.device) || !same(filter.function, address.function)) return false;
  const { vendorId, deviceId, class: class_, interface: interface_ } = filter;
  if (vendorId === undefined && deviceId === undefined && class_ === undefined && interface_ === undefined) return true;
  const found = ids();
  if (!same(vendorId, found.vendorId) || !same(deviceId, found.deviceId)) return false;
  if (class_ !== undefined && (((found.classCode >>> 8) ^ class_.value) & class_.mask) !== 0) return false;
  return same(interface_, found.classCode & 0xff);
}

function hexField(
  option: string,
  text: string,
  name: string,
  field: string | undefined,
  limit: number,
): number | undefined {
  if (field === undefined || field === "" || field === "*") return undefined;
  const value = /^[0-9a-f]+$/i.test(field) ? Number.parseInt(field, 16) : Number.NaN;
  if (value <= limit) return value;
  return refuse(option, text, `a ${name} from 0 to ${limit.toString(16)}, hexadecimal`);
}

function classField(text: string, field: string | undefined): FunctionFilter["class"] {
  if (field === undefined || field === "" || field === "*") return undefined;
  if (!/^0*[0-9a-fx]{1,4}$/i.test(field)) refuse("-d", text, "a class of up to four hexadecimal digits or x");
  const digits = field.slice(-4);
  const value = Number.parseInt(digits.replace(/x/gi, "0"), 16);
  // Digits that are not written are zero and count.
  const mask = Number.parseInt(digits.replace(/[^x]/gi, "f").replace(/x/gi, "0").padStart(4, "f"), 16);
  return { value, mask };
}

function refuse(option: string, text: string, wanted: string): never {
  throw new Ring3Error("FILTER_INVALID", `${option} "${text}" chooses no function; it takes ${wanted}`);
}
