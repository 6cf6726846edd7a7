// The real lspci as a judge: it decodes dumps of virtual functions, and what it does not like it says in words that can be
// looked for. It runs on this machine, from the peers' packages, and needs neither hardware nor a guest.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "ring3/binary";
import type { VirtualConfig } from "../../packages/ring3/src/virtual/index.ts";
import { GuestUnavailable, type Progress } from "./cache.ts";
import { GROUPS, packageRoot } from "./packages.ts";
import { debianTool } from "./tools.ts";

/** The form of `lspci -xxxx`, which `lspci -F` reads. */
export function lspciDump(config: VirtualConfig, address = "00:04.0"): string {
  const bytes = new Uint8Array(config.size);
  config.readInto(0, bytes);
  const lines = [`${address} Virtual function`];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    lines.push(`${at.toString(16).padStart(bytes.length > 256 ? 3 : 2, "0")}: ${row}`);
  }
  return `${lines.join("\n")}\n`;
}

/**
 * What `lspci -vvv` says about a dump. Fetches the packages where they are not there; rejects with `GuestUnavailable` where
 * it cannot.
 */
export async function lspci(dump: string, progress: Progress = () => {}): Promise<string> {
  const root = await packageRoot(GROUPS.peers, progress).catch((error: unknown) => {
    throw new GuestUnavailable(`lspci cannot be fetched: ${messageOf(error)}`);
  });
  const { program, args } = debianTool(root, "lspci");
  const directory = await mkdtemp(join(tmpdir(), "ring3-lspci-"));
  try {
    const file = join(directory, "dump");
    await writeFile(file, dump);
    const ids = join(root, "usr/share/misc/pci.ids");
    const { stdout, stderr } = await promisify(execFile)(program, [...args, "-i", ids, "-F", file, "-nn", "-vvv"]);
    // Without the machine's modules it cannot name drivers, which a dump does not have anyway.
    const errors = stderr.split("\n").filter((line) => line !== "" && !line.includes("libkmod"));
    return [stdout, ...errors.map((line) => `error: ${line}`)].join("\n");
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Lines in which lspci complains: broken chains, unknown or unreadable content, registers that contradict each other. */
export function complaints(text: string): string[] {
  const bad =
    /broken|unknown|\[virtual\]|unassigned|invalid[^a]|reserved|error:|cannot|denied|looped|\?\?|!!!|\[disabled\]/i;
  return text.split("\n").filter((line) => bad.test(line) && !line.includes("Invalidate Queue"));
}
