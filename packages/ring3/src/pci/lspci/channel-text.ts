// Text of virtual channels, and of what a root complex says of its links and event collectors.
import { EventCollectorAssociation } from "../capabilities/event-collector-association.ts";
import { RootComplexLinkEntry as LinkEntry, RootComplexLink } from "../capabilities/root-complex-link.ts";
import { VirtualChannelResource as Resource, VirtualChannel } from "../capabilities/virtual-channel.ts";
import { entry, flag, hex, layout } from "./layout.ts";
import type { Printer } from "./printer.ts";

const PORT_ARBITERS = ["Fixed", "WRR32", "WRR64", "WRR128"];
const CHANNEL_ARBITERS = [...PORT_ARBITERS, "TWRR128", "WRR256"];
const formats = {
  clock: ["100ns"],
  bits: (value: number) => 1 << value,
  portArbiter: PORT_ARBITERS,
  channelArbiter: CHANNEL_ARBITERS,
  slots: (value: number) => value + 1,
};

const portCapability = layout(
  VirtualChannel.PORT_CAPABILITY_1,
  "\t\tCaps:\tLPEVC={LOW_PRIORITY_EXTENDED_VC_COUNT} RefClk={REFERENCE_CLOCK:clock} " +
    "PATEntryBits={PORT_ARBITRATION_TABLE_ENTRY_SIZE:bits}\n",
  formats,
);
const portState = [
  layout(VirtualChannel.PORT_CONTROL, "\n\t\tCtrl:\tArbSelect={VC_ARBITRATION_SELECT:portArbiter}\n", formats),
  layout(VirtualChannel.PORT_STATUS, "\t\tStatus:\tInProgress{VC_ARBITRATION_TABLE_STATUS}\n"),
];
const channelCapability = layout(
  Resource.CAPABILITY,
  "Caps:\tPATOffset={PORT_ARBITRATION_TABLE_OFFSET:02x} MaxTimeSlots={MAXIMUM_TIME_SLOTS:slots} " +
    "RejSnoopTrans{REJECT_SNOOP_TRANSACTIONS}\n\t\t\tArb:",
  formats,
);
const channelState = [
  layout(
    Resource.CONTROL,
    "\n\t\t\tCtrl:\tEnable{VC_ENABLE} ID={VC_ID} ArbSelect={PORT_ARBITRATION_SELECT:channelArbiter} " +
      "TC/VC={TC_VC_MAP:02x}\n",
    formats,
  ),
  layout(
    Resource.STATUS,
    "\t\t\tStatus:\tNegoPending{VC_NEGOTIATION_PENDING} InProgress{PORT_ARBITRATION_TABLE_STATUS}\n",
  ),
];
const FIRST_CHANNEL = 0x10;
const CHANNEL_SIZE = 12;

/** Arbiters that nobody defined are shown where they are there. */
function arbiters(raw: number, names: readonly string[]): string {
  let text = "";
  for (let bit = 0; bit < 8; bit++) {
    const isThere = (raw & (1 << bit)) !== 0;
    if (bit >= names.length && !isThere) continue;
    text += `${bit === 0 ? "\t" : " "}${entry(names, bit)}${isThere ? "+" : "-"}`;
  }
  return text;
}

export function showVirtualChannel(printer: Printer, at: number): void {
  const { config } = printer;
  printer.print("Virtual Channel\n");
  if (!printer.detailed || !config.fetch(at + 4, 0x18)) return;
  const { PORT_CAPABILITY_1, PORT_CAPABILITY_2 } = VirtualChannel;
  printer.show(at, portCapability);
  const arbitration = printer.raw(at, PORT_CAPABILITY_2);
  printer.print(`\t\tArb:${arbiters(arbitration, PORT_ARBITERS)}`);
  printer.show(at, ...portState);
  const table = PORT_CAPABILITY_2.fields.VC_ARBITRATION_TABLE_OFFSET.get(arbitration);
  if (table !== 0) printer.print(`\t\tPort Arbitration Table [${hex(at + 16 * table)}] <?>\n`);
  const further = PORT_CAPABILITY_1.fields.EXTENDED_VC_COUNT.get(printer.raw(at, PORT_CAPABILITY_1));
  for (let index = 0; index <= further; index++) showChannel(printer, at + FIRST_CHANNEL + CHANNEL_SIZE * index, index);
}

function showChannel(printer: Printer, at: number, index: number): void {
  printer.print(`\t\tVC${index}:\t`);
  if (!printer.config.fetch(at, CHANNEL_SIZE)) {
    printer.print("<unreadable>\n");
    return;
  }
  const capability = printer.raw(at, Resource.CAPABILITY);
  printer.print(`${channelCapability.render(capability)}${arbiters(capability, CHANNEL_ARBITERS)}`);
  printer.show(at, ...channelState);
  if (Resource.CAPABILITY.fields.PORT_ARBITRATION_TABLE_OFFSET.test(capability)) {
    printer.print("\t\t\tPort Arbitration Table <?>\n");
  }
}

const element = layout(
  RootComplexLink.ELEMENT_SELF_DESCRIPTION,
  "\t\tDesc:\tPortNumber={PORT_NUMBER:02x} ComponentID={COMPONENT_ID:02x} EltType={ELEMENT_TYPE:type}\n",
  { type: ["Config", "Egress", "Internal"] },
);
const linkEntry = layout(
  LinkEntry.DESCRIPTION,
  "Desc:\tTargetPort={TARGET_PORT_NUMBER:02x} TargetComponent={TARGET_COMPONENT_ID:02x} " +
    "AssocRCRB{ASSOCIATE_RCRB_HEADER} LinkType={LINK_TYPE:type} LinkValid{LINK_VALID}\n",
  { type: ["MemMapped", "Config"] },
);
const FIRST_LINK = 0x10;
const LINK_SIZE = 16;

export function showRootComplexLink(printer: Printer, at: number): void {
  const { config } = printer;
  printer.print("Root Complex Link\n");
  if (!printer.detailed || !config.fetch(at + 4, FIRST_LINK - 4)) return;
  printer.show(at, element);
  const { ELEMENT_SELF_DESCRIPTION } = RootComplexLink;
  const raw = printer.raw(at, ELEMENT_SELF_DESCRIPTION);
  const count = ELEMENT_SELF_DESCRIPTION.fields.NUMBER_OF_LINK_ENTRIES.get(raw);
  for (let index = 0; index < count; index++) {
    const place = at + FIRST_LINK + LINK_SIZE * index;
    printer.print(`\t\tLink${index}:\t`);
    if (!config.fetch(place, LINK_SIZE)) {
      printer.print("<unreadable>\n");
      return;
    }
    const description = printer.raw(place, LinkEntry.DESCRIPTION);
    const [lower, upper] = [printer.raw(place, LinkEntry.ADDRESS_LOWER), printer.raw(place, LinkEntry.ADDRESS_UPPER)];
    const address = `${hex(upper, 8)}${hex(lower, 8)}`;
    printer.print(linkEntry.render(description));
    printer.print(
      LinkEntry.DESCRIPTION.fields.LINK_TYPE.test(description)
        ? `\t\t\tAddr:\t${configAddress(lower)}  CfgSpace=${address}\n`
        : `\t\t\tAddr:\t${address}\n`,
    );
  }
}

/** The lowest bits say how many bits the bus number has. */
function configAddress(lower: number): string {
  const busBits = (lower & 7) === 0 ? 8 : lower & 7;
  const bus = (lower >>> 20) & (2 ** busBits - 1);
  return `${hex(bus, 2)}:${hex((lower >>> 15) & 0x1f, 2)}.${(lower >>> 12) & 7}`;
}

export function showRootComplexEventCollector(printer: Printer, at: number): void {
  const { config, verbose } = printer;
  printer.print("Root Complex Event Collector Endpoint Association\n");
  if (!printer.detailed || !config.fetch(at, 12)) return;
  const version = (config.long(at) >>> 16) & 0xf;
  const bitmap = printer.raw(at, EventCollectorAssociation.ASSOCIATION_BITMAP);
  const none = verbose > 2 ? "00000000 [none]" : "[none]";
  printer.print(`\t\tRCiEPBitmap: ${bitmap === 0 ? none : `RCiEP at Device(s):${runs(bitmap)}`}\n`);
  if (version < 2) return;
  const { fields } = EventCollectorAssociation.ASSOCIATED_BUS_NUMBERS;
  const raw = printer.raw(at, EventCollectorAssociation.ASSOCIATED_BUS_NUMBERS);
  const [next, last] = [fields.NEXT_BUS.get(raw), fields.LAST_BUS.get(raw)];
  const range = `${hex(next, 2)}-${hex(last, 2)}`;
  const isEmpty = next === 0xff && last === 0;
  printer.print(`\t\tAssociatedBusNumbers: ${isEmpty ? `${verbose > 2 ? `${range} ` : ""}[none]` : range}\n`);
}

/** Set bits as runs, ` 1, 4-6`; a run that reaches the last bit is left open, as lspci has it. */
function runs(bitmap: number): string {
  let text = "";
  let from: number | undefined;
  for (let bit = 0; bit < 32; bit++) {
    if (flag(bitmap, 2 ** bit) === "+") {
      if (from === undefined) text += `${text === "" ? "" : ","} ${bit}`;
      from ??= bit;
    } else if (from !== undefined) {
      if (bit - from > 1) text += `-${bit - 1}`;
      from = undefined;
    }
  }
  return text;
}
