// A vfio-user message in a few words: its name, and what it says, with the registers of config space and of an NVMe
// controller by name.

import { Header, Header0 } from "../../packages/ring3/src/pci/index.ts";
import { Nvme } from "../../packages/ring3/src/specs/nvme/index.ts";
import type { Message } from "../../packages/ring3/src/vfio-user/connection.ts";
import {
  type Capabilities,
  Command,
  commandName,
  DefaultCapability,
  DeviceInfo,
  DmaAccess,
  DmaMap,
  DmaMapFlag,
  DmaUnmap,
  HeaderFlag,
  IrqInfo,
  IrqSet,
  Region,
  RegionAccess,
  RegionFlag,
  RegionInfo,
  Version,
} from "../../packages/ring3/src/vfio-user/messages.ts";

export interface MessageText {
  /** What counts as the same message. */
  readonly name: string;
  readonly text: string;
  /** No reply will come. */
  readonly posted: boolean;
}

export function isReply({ flags }: Message): boolean {
  return (flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY;
}

/** Describes a message; a reply that only says "done" says nothing. */
export function describeMessage(message: Message): MessageText {
  const name = commandName(message.command);
  const posted = (message.flags & HeaderFlag.NO_REPLY) !== 0;
  const fds = message.fds.length === 0 ? "" : ` + ${countText(message.fds.length, "fd")}`;
  try {
    if (isReply(message)) {
      const failed = (message.flags & HeaderFlag.ERROR) !== 0;
      return { name, posted, text: failed ? `error ${message.error}` : `${replyText(message)}${fds}` };
    }
    const { name: kind = name, text } = commandText(name, message);
    return { name: kind, posted, text: `${text}${fds}` };
  } catch {
    // Longer or shorter than expected: the name alone is true.
    return { name, posted, text: name };
  }
}

function commandText(name: string, { command, payload }: Message): { name?: string; text: string } {
  switch (command) {
    case Command.VERSION: {
      const { major, minor } = Version.from(payload);
      return { text: `${name} ${major}.${minor}${capabilities(payload)}` };
    }
    case Command.DMA_MAP: {
      const { address, size, flags } = DmaMap.from(payload);
      const read = (flags & DmaMapFlag.READABLE) === 0 ? "" : "r";
      const write = (flags & DmaMapFlag.WRITEABLE) === 0 ? "" : "w";
      return { text: `${name} ${sizeText(size)} of memory at ${hex(address)}, ${read}${write}` };
    }
    case Command.DMA_UNMAP: {
      const { address, size } = DmaUnmap.from(payload);
      return { text: `${name} ${sizeText(size)} at ${hex(address)}` };
    }
    case Command.DEVICE_GET_REGION_INFO:
      return { text: `${name} of ${regionName(RegionInfo.from(payload).index)}` };
    case Command.DEVICE_GET_IRQ_INFO:
      return { text: `${name} of ${irqName(IrqInfo.from(payload).index)}` };
    case Command.DEVICE_SET_IRQS: {
      const { index, start, count } = IrqSet.from(payload);
      const vectors = count === 0 ? "off" : `${countText(count, "vector")} from ${start}`;
      return { text: `${name} ${irqName(index)}, ${vectors}` };
    }
    case Command.REGION_READ:
    case Command.REGION_WRITE: {
      const access = RegionAccess.from(payload);
      const place = placeName(access);
      const value = command === Command.REGION_WRITE ? ` = ${valueText(payload.subarray(RegionAccess.size))}` : "";
      const kind =
        access.region === Region.CONFIG
          ? "config space"
          : place.replace(/^BAR 0 /, "").replace(/^\w+ doorbell /, "doorbells ");
      return { name: `${name} of ${kind}`, text: `${name} ${place}${value}` };
    }
    case Command.DMA_READ:
    case Command.DMA_WRITE: {
      const { address, count } = DmaAccess.from(payload);
      return { text: `${name} ${count} bytes at ${hex(address)}` };
    }
    default:
      return { text: name };
  }
}

function replyText({ command, payload }: Message): string {
  switch (command) {
    case Command.VERSION: {
      const { major, minor } = Version.from(payload);
      return `${major}.${minor}${capabilities(payload)}`;
    }
    case Command.DEVICE_GET_INFO: {
      const { num_regions, num_irqs } = DeviceInfo.from(payload);
      return `a PCI function, ${num_regions} regions, ${num_irqs} kinds of interrupts`;
    }
    case Command.DEVICE_GET_REGION_INFO: {
      const { size, flags } = RegionInfo.from(payload);
      return `${sizeText(size)}${(flags & RegionFlag.MMAP) === 0 ? "" : ", can be mapped"}`;
    }
    case Command.DEVICE_GET_IRQ_INFO:
      return countText(IrqInfo.from(payload).count, "vector");
    case Command.REGION_READ:
      return valueText(payload.subarray(RegionAccess.size));
    default:
      return "";
  }
}

/** The two that bound what follows. */
function capabilities(payload: Uint8Array): string {
  const text = new TextDecoder().decode(payload.subarray(Version.size)).replace(/\0.*$/s, "");
  if (text === "") return "";
  const { capabilities: named = {} } = JSON.parse(text) as { capabilities?: Capabilities };
  const { max_msg_fds, max_data_xfer_size } = { ...DefaultCapability, ...named };
  return `, ${countText(max_msg_fds, "fd")} and ${sizeText(BigInt(max_data_xfer_size))} a message`;
}

/** Names of the header's registers by offset; beyond it lie capabilities, whose places differ. */
const CONFIG_NAMES = new Map<number, string>();
for (const group of [Header0, Header]) {
  for (const { name, offset } of Object.values(group.registers)) CONFIG_NAMES.set(offset, name);
}

const NVME_NAMES = new Map<number, string>();
for (const [name, offset] of Object.entries(Nvme)) NVME_NAMES.set(offset, name.replace(/_LOW$/, ""));

function placeName({ region, offset }: { readonly region: number; readonly offset: bigint }): string {
  const at = Number(offset);
  if (region === Region.CONFIG) return `config ${CONFIG_NAMES.get(at) ?? hex(at)}`;
  if (region !== Region.BAR0) return `${regionName(region)} ${hex(at)}`;
  if (at >= Nvme.DOORBELLS) {
    const number = (at - Nvme.DOORBELLS) / 4;
    return `BAR 0 ${number % 2 === 0 ? "submission" : "completion"} doorbell of queue ${Math.floor(number / 2)}`;
  }
  return `BAR 0 ${NVME_NAMES.get(at) ?? hex(at)}`;
}

function regionName(region: number): string {
  if (region <= Region.BAR5) return `BAR ${region}`;
  return { [Region.ROM]: "ROM", [Region.CONFIG]: "config space", [Region.VGA]: "VGA" }[region] ?? `region ${region}`;
}

function irqName(index: number): string {
  return ["INTx", "MSI", "MSI-X", "errors", "removal"][index] ?? `interrupt ${index}`;
}

/** Little-endian bytes as a number; long ones by their length. */
function valueText(bytes: Uint8Array): string {
  if (bytes.length > 8) return `${bytes.length} bytes`;
  const digits = [...bytes].toReversed().map((byte) => byte.toString(16).padStart(2, "0"));
  return `0x${digits.join("")}`;
}

function countText(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}

/** Bytes in the largest unit that they are a whole number of. */
export function sizeText(bytes: bigint): string {
  for (const [unit, size] of [
    ["GiB", 2n ** 30n],
    ["MiB", 2n ** 20n],
    ["KiB", 2n ** 10n],
  ] as const) {
    if (bytes >= size && bytes % size === 0n) return `${bytes / size} ${unit}`;
  }
  return `${bytes} bytes`;
}
