// Text of integrity and data encryption: blocks of registers that follow each other, as many as they themselves say.
import {
  IdeAddressAssociation as Address,
  IntegrityAndDataEncryption as Ide,
  LinkIdeStream as LinkStream,
  SelectiveIdeStream as Selective,
} from "../capabilities/integrity-and-data-encryption.ts";
import { hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const formats = {
  algorithm: (value: number) => (value === 0 ? "AES-GCM-256-96b" : "reserved"),
  count: (value: number) => value + 1,
  aggregation: ["-", "=2", "=4", "=8"],
  encryption: ["no", "17:2", "25:2", "33:2", "41:2"],
  state: ["insecure", "reserved", "secure"],
  default: ["", " Default"],
};
const capability = layout(
  Ide.CAPABILITY,
  " FlowThru{FLOW_THROUGH_IDE_STREAM_SUPPORTED} PartHdr{PARTIAL_HEADER_ENCRYPTION_SUPPORTED} " +
    "Aggr{AGGREGATION_SUPPORTED} PCPC{PCRC_SUPPORTED} IDE_KM{IDE_KM_PROTOCOL_SUPPORTED} " +
    "SelCfg{SELECTIVE_IDE_FOR_CONFIGURATION_REQUESTS_SUPPORTED} Alg='{SUPPORTED_ALGORITHMS:algorithm}' " +
    "TCs={NUMBER_OF_TCS_SUPPORTED_FOR_LINK_IDE:count} TeeLim{TEE_LIMITED_STREAM_SUPPORTED} XT{XT_SUPPORTED}\n",
  formats,
);
const control = layout(Ide.CONTROL, "\t\tIDECtl: FTEn{FLOW_THROUGH_IDE_STREAM_ENABLED}\n");
const AGGREGATION =
  "NPR{TX_AGGREGATION_MODE_NPR:aggregation} PR{TX_AGGREGATION_MODE_PR:aggregation} " +
  "CPL{TX_AGGREGATION_MODE_CPL:aggregation}";
// lspci shows the enable bit once more where the PCRC one would stand.
const linkControl = layout(
  LinkStream.CONTROL,
  ` Ctl: En{STREAM_ENABLE} XT{XT_ENABLE} ${AGGREGATION} PCRC{STREAM_ENABLE} ` +
    "HdrEnc={PARTIAL_HEADER_ENCRYPTION_MODE:encryption} Alg='{SELECTED_ALGORITHM:algorithm}' TC{TC} ID{STREAM_ID}\n",
  formats,
);
const linkStatus = layout(
  LinkStream.STATUS,
  " Sta: Status={STREAM_STATE:state} RecvChkFail{RECEIVED_INTEGRITY_CHECK_FAIL_MESSAGE}\n",
  formats,
);
const selectiveCapability = layout(
  Selective.CAPABILITY,
  " Cap: RID#={NUMBER_OF_ADDRESS_ASSOCIATION_REGISTER_BLOCKS}\n",
);
const selectiveControl = layout(
  Selective.CONTROL,
  ` Ctl: En{STREAM_ENABLE} XT{XT_ENABLE} ${AGGREGATION} PCRC{PCRC_ENABLE} CFG{CONFIGURATION_REQUESTS_ENABLE} ` +
    "HdrEnc={PARTIAL_HEADER_ENCRYPTION_MODE:encryption} Alg='{SELECTED_ALGORITHM:algorithm}' TC{TC} " +
    "TeeLim{TEE_LIMITED_STREAM} ID{STREAM_ID}{DEFAULT_STREAM:default}\n",
  formats,
);
const selectiveStatus = layout(
  Selective.STATUS,
  " Sta: {STREAM_STATE:state} RecvChkFail{RECEIVED_INTEGRITY_CHECK_FAIL_MESSAGE}\n",
  formats,
);
const ridValid = layout(Selective.RID_ASSOCIATION_2, " RID: Valid{VALID} Base={RID_BASE:x}");
const ridLimit = layout(Selective.RID_ASSOCIATION_1, " Limit={RID_LIMIT:x}");
const ridSegment = layout(Selective.RID_ASSOCIATION_2, " SegBase={SEGMENT_BASE:x}\n");
const LINK_BLOCK = 8;
const SELECTIVE_BLOCK = 20;
const ADDRESS_BLOCK = 12;

export function showIntegrityAndDataEncryption(printer: Printer, at: number): void {
  printer.print("Integrity & Data Encryption\n");
  if (!printer.detailed) return;
  if (!printer.fetch(at, Ide.CAPABILITY, Ide.CONTROL)) return unreadable(printer);
  const raw = printer.raw(at, Ide.CAPABILITY);
  const { fields } = Ide.CAPABILITY;
  const links = fields.LINK_IDE_STREAM_SUPPORTED.test(raw)
    ? fields.NUMBER_OF_TCS_SUPPORTED_FOR_LINK_IDE.get(raw) + 1
    : 0;
  const selective = fields.SELECTIVE_IDE_STREAMS_SUPPORTED.test(raw)
    ? fields.NUMBER_OF_SELECTIVE_IDE_STREAMS_SUPPORTED.get(raw) + 1
    : 0;
  printer.print(`\t\tIDECap: Lnk=${links} Sel=${selective}${capability.render(raw)}`);
  printer.show(at, control);
  let place = at + Ide.CONTROL.offset + 4;
  if (links > 0 && !printer.config.fetch(place, LINK_BLOCK * links)) return unreadable(printer);
  for (let index = 0; index < links; index++) {
    const name = `LinkIDE#${index}`;
    printer.print(`\t\t${offset(printer, place)}${name}`);
    printer.show(place, linkControl);
    printer.print(`\t\t${offset(printer, place + 4)}${name}`);
    printer.show(place, linkStatus);
    place += LINK_BLOCK;
  }
  for (let index = 0; index < selective; index++) {
    const next = showSelective(printer, place, index);
    if (next === undefined) return unreadable(printer);
    place = next;
  }
}

/** Returns where the next block begins; `undefined` where this one cannot be read. */
function showSelective(printer: Printer, at: number, index: number): number | undefined {
  if (!printer.config.fetch(at, SELECTIVE_BLOCK)) return undefined;
  const name = `SelectiveIDE#${index}`;
  for (const line of [selectiveCapability, selectiveControl, selectiveStatus]) {
    printer.print(`\t\t${offset(printer, at + line.register.offset)}${name}`);
    printer.show(at, line);
  }
  printer.print(`\t\t${offset(printer, at + Selective.RID_ASSOCIATION_1.offset)}${name}`);
  printer.show(at, ridValid, ridLimit, ridSegment);
  const count = printer.raw(at, Selective.CAPABILITY) & 0xf;
  let place = at + SELECTIVE_BLOCK;
  if (!printer.config.fetch(place, count * ADDRESS_BLOCK)) return undefined;
  for (let number = 0; number < count; number++) {
    const raw = printer.raw(place, Address.REGISTER_1);
    const { VALID, MEMORY_BASE_LOWER, MEMORY_LIMIT_LOWER } = Address.REGISTER_1.fields;
    // The low parts are shifted in 32 bits with a sign, which reaches into the upper ones.
    const limit = joined(printer.raw(place, Address.REGISTER_2), (MEMORY_LIMIT_LOWER.get(raw) << 20) | 0xfffff);
    const base = joined(printer.raw(place, Address.REGISTER_3), MEMORY_BASE_LOWER.get(raw) << 20);
    printer.print(
      `\t\t${offset(printer, place)}${name} RID#${number}: Valid${VALID.test(raw) ? "+" : "-"} ` +
        `Base=${hex(base)} Limit=${hex(limit)}\n`,
    );
    place += ADDRESS_BLOCK;
  }
  return place;
}

function joined(upper: number, lower: number): bigint {
  return (BigInt(upper) << 32n) | BigInt(lower >>> 0);
}

/** With -vvv every register of the blocks is shown with its place. */
function offset(printer: Printer, at: number): string {
  return printer.verbose < 3 ? "" : `[${hex(at)}]`;
}

function unreadable(printer: Printer): void {
  printer.print("\t\t<unreadable>\n");
}
