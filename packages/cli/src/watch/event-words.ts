// Words for errors, links and packets, for the commands that show them.
import type { ErrorPacket, LinkState } from "ring3/host";
import { transactionHeaderText } from "ring3/pci";
import { hex } from "../text.ts";

/** `COMPLETION_TIMEOUT` as `Completion Timeout`, the way that the specification writes it in sentences. */
export function errorName(field: string): string {
  if (!/^[A-Z0-9_]+$/.test(field)) return field;
  const kept = new Set(["TLP", "DLLP", "ECRC", "ACS", "MC", "IDE", "PCRC"]);
  return field
    .split("_")
    .map((word) =>
      kept.has(word) ? word : word === "DMWR" ? "DMWr" : `${word[0] ?? ""}${word.slice(1).toLowerCase()}`,
    )
    .join(" ");
}

export function linkText({ speed, width }: LinkState): string {
  return `${speed ?? "unknown speed"} x${width ?? "?"}`;
}

export function packetText({ dwords, header }: ErrorPacket): string {
  const raw = dwords.map((dword) => hex(dword, 8)).join(" ");
  return header === undefined ? `packet ${raw}` : `packet ${transactionHeaderText(header)} [${raw}]`;
}
