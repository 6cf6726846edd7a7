// Advanced error reporting of an endpoint. PCIe 6.0, sections 6.2.4.2 and 7.8.4. The header log holds the header of the error
// that FIRST_ERROR_POINTER names; clearing that error's bit brings up the next one where several are recorded.
import { Ring3Error } from "../../binary/error.ts";
import { AdvancedErrorReporting as Aer } from "../../pci/capabilities/advanced-error-reporting.ts";
import type { CapabilityBuilder, CapabilityPlace } from "../capability-builder.ts";
import { get, put } from "../config-bits.ts";
import type { HeaderLog, UncorrectableError } from "../error-recording.ts";

export interface AdvancedErrorReportingOptions {
  readonly at?: number;
  /** How many headers are kept at once, 1 (default) to 32. More than one is multiple header recording. */
  readonly headers?: number;
  /** Whether end-end prefixes are logged; off by default. */
  readonly prefixLog?: boolean;
  /** Whether the function can make and check ECRC; off by default. */
  readonly ecrc?: boolean;
  /** Uncorrectable errors besides those that every endpoint may have. */
  readonly errors?: readonly UncorrectableError[];
}

/** What an endpoint may meet. The others belong to ports, or to features that it would need. */
const ofEndpoints: readonly UncorrectableError[] = [
  "DATA_LINK_PROTOCOL_ERROR",
  "POISONED_TLP_RECEIVED",
  "FLOW_CONTROL_PROTOCOL_ERROR",
  "COMPLETION_TIMEOUT",
  "COMPLETER_ABORT",
  "UNEXPECTED_COMPLETION",
  "RECEIVER_OVERFLOW",
  "MALFORMED_TLP",
  "ECRC_ERROR",
  "UNSUPPORTED_REQUEST_ERROR",
  "UNCORRECTABLE_INTERNAL_ERROR",
];

const headerLog = [Aer.HEADER_LOG_0, Aer.HEADER_LOG_1, Aer.HEADER_LOG_2, Aer.HEADER_LOG_3] as const;
const prefixLog = [Aer.TLP_PREFIX_LOG_0, Aer.TLP_PREFIX_LOG_1, Aer.TLP_PREFIX_LOG_2, Aer.TLP_PREFIX_LOG_3] as const;

/** A header that waits for its turn: the error's bit, four dwords of header, up to four of prefix. */
interface Recorded {
  readonly bit: number;
  readonly header: readonly number[];
  readonly prefix: readonly number[];
}

/** Advanced error reporting. Errors come in through `VirtualFunction.injectError`. Throws `DECLARATION_INVALID`. */
export function aer(options: AdvancedErrorReportingOptions = {}): CapabilityBuilder {
  const { headers = 1, prefixLog: prefixes = false, ecrc = false, errors = [] } = options;
  if (!Number.isInteger(headers) || headers < 1 || headers > 32) {
    throw new Ring3Error("DECLARATION_INVALID", `AER keeps 1 to 32 headers, not ${headers}`);
  }
  return {
    group: Aer,
    version: 2,
    size: prefixes ? 0x48 : 0x2c,
    ...(options.at === undefined ? {} : { at: options.at }),
    build(place) {
      const there = new Set<UncorrectableError>([...ofEndpoints, ...errors]);
      const all = Object.keys(Aer.UNCORRECTABLE_ERROR_STATUS.fields) as UncorrectableError[];
      const absent = Object.fromEntries(all.filter((name) => !there.has(name)).map((name) => [name, 0]));
      for (const register of [Aer.UNCORRECTABLE_ERROR_MASK, Aer.UNCORRECTABLE_ERROR_SEVERITY] as const) {
        place.only(register, [...there]);
        place.preset(register, absent);
      }
      place.only(Aer.UNCORRECTABLE_ERROR_STATUS, [...there]);
      if (prefixes) {
        place.writable(Aer.ROOT_ERROR_COMMAND, 0);
        place.only(Aer.ROOT_ERROR_STATUS, []);
      }
      const { CAPABILITIES_AND_CONTROL } = Aer;
      place.preset(CAPABILITIES_AND_CONTROL, {
        ECRC_GENERATION_CAPABLE: ecrc ? 1 : 0,
        ECRC_CHECK_CAPABLE: ecrc ? 1 : 0,
        MULTIPLE_HEADER_RECORDING_CAPABLE: headers > 1 ? 1 : 0,
      });
      place.only(CAPABILITIES_AND_CONTROL, [
        ...(ecrc ? (["ECRC_GENERATION_ENABLE", "ECRC_CHECK_ENABLE"] as const) : []),
        ...(headers > 1 ? (["MULTIPLE_HEADER_RECORDING_ENABLE"] as const) : []),
      ]);
      place.recordsErrors(recorder(place, headers, prefixes));
    },
  };
}

function recorder(place: CapabilityPlace, capacity: number, prefixes: boolean): HeaderLog {
  const { CAPABILITIES_AND_CONTROL, UNCORRECTABLE_ERROR_STATUS } = Aer;
  const { MULTIPLE_HEADER_RECORDING_ENABLE } = CAPABILITIES_AND_CONTROL.fields;
  /** The first is the one that the registers show. */
  let queue: Recorded[] = [];

  const show = (): void => {
    const first = queue[0];
    place.set(CAPABILITIES_AND_CONTROL, {
      FIRST_ERROR_POINTER: first?.bit ?? 0,
      TLP_PREFIX_LOG_PRESENT: (first?.prefix.length ?? 0) > 0 ? 1 : 0,
    });
    for (const [index, register] of headerLog.entries()) place.set(register, { VALUE: first?.header[index] ?? 0 });
    if (!prefixes) return;
    for (const [index, register] of prefixLog.entries()) place.set(register, { VALUE: first?.prefix[index] ?? 0 });
  };

  // Errors whose headers wait keep their bits: that is how software learns that there is another of the same kind.
  place.onWrite(UNCORRECTABLE_ERROR_STATUS, ({ raw }) => {
    const first = queue[0];
    if (first !== undefined && ((raw >>> first.bit) & 1) === 1) {
      queue.shift();
      show();
    }
    let status = place.read(UNCORRECTABLE_ERROR_STATUS);
    for (const { bit } of queue) status |= 1 << bit;
    place.setRaw(UNCORRECTABLE_ERROR_STATUS, status >>> 0);
  });

  place.keepState({
    save() {
      const bytes = new Uint8Array(queue.length * 36);
      for (const [index, { bit, header, prefix }] of queue.entries()) {
        put(bytes, index * 36, 4, bit | (prefix.length << 8));
        for (let word = 0; word < 4; word++) {
          put(bytes, index * 36 + 4 + 4 * word, 4, header[word] ?? 0);
          put(bytes, index * 36 + 20 + 4 * word, 4, prefix[word] ?? 0);
        }
      }
      return bytes;
    },
    check(bytes) {
      if (bytes.length % 36 !== 0 || bytes.length / 36 > capacity) {
        throw new Ring3Error(
          "STATE_INVALID",
          `the saved header log has ${bytes.length} bytes; ${capacity} headers fit`,
        );
      }
      for (let at = 0; at < bytes.length; at += 36) {
        if (get(bytes, at, 4) % 256 > 31 || get(bytes, at, 4) >>> 8 > 4) {
          throw new Ring3Error("STATE_INVALID", "the saved header log names an error that there is not");
        }
      }
    },
    restore(bytes) {
      queue = [];
      for (let at = 0; at < bytes.length; at += 36) {
        const head = get(bytes, at, 4);
        const words = (from: number, count: number): number[] =>
          Array.from({ length: count }, (_, index) => get(bytes, at + from + 4 * index, 4));
        queue.push({ bit: head & 31, header: words(4, 4), prefix: words(20, head >>> 8) });
      }
    },
    powerOn() {
      queue = [];
    },
  });

  return {
    record(bit, header, prefix) {
      // While the pointer is valid the registers belong to the error that it names.
      const several = MULTIPLE_HEADER_RECORDING_ENABLE.test(place.read(CAPABILITIES_AND_CONTROL));
      if (queue.length > 0 && (!several || queue.length >= capacity)) return false;
      const four = (words: readonly number[]): number[] => words.slice(0, 4).map((word) => word >>> 0);
      queue.push({ bit, header: four(header), prefix: prefixes ? four(prefix) : [] });
      if (queue.length === 1) show();
      return true;
    },
  };
}
