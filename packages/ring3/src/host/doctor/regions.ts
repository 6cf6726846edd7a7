// BARs and the MSI-X table, as far as sysfs tells before the function is opened: which BARs the kernel will map, and where
// the table lies. Hard part: a BAR smaller than a page is mapped only where the kernel can keep the rest of its page free.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigSpace } from "../../pci/config-space.ts";
import { PciAddress } from "../../pci/address.ts";
import { type MsiXLayout, readMsiXLayout } from "../../pci/capabilities/msi-x.ts";
import type { HostFunction, HostResource } from "../inventory.ts";
import { functionDirectory, type HostPaths } from "../paths.ts";
import { sysfsAccess } from "../sysfs-access.ts";
import { bootWith } from "./boot-parameters.ts";
import { type Evidence, type Finding, Findings, run } from "./finding.ts";

const AT_PAGESZ = 6n;
const COMMON_PAGE_BYTES = 4096;

export interface Regions {
  readonly found: readonly Finding[];
  /** Interrupt vectors of MSI-X, where they can be seen. */
  readonly vectors: number | undefined;
}

/** Examines the BARs of `fn` and its MSI-X table. */
export function examineRegions(fn: HostFunction, paths: HostPaths): Regions {
  const findings = new Findings(fn.address);
  const pageBytes = pageSize(paths);
  const source = join(functionDirectory(paths, fn.address), "resource");
  const memory = fn.resources.filter(({ index, kind }) => index < 6 && kind !== "io");
  const before = findings.found.length;
  for (const bar of memory) examineBar(findings, fn, bar, pageBytes, source, paths);
  if (memory.length > 0 && findings.found.length === before) {
    const text = memory.map(({ index, sizeBytes }) => `BAR ${index} ${sizeText(sizeBytes)}`).join(", ");
    findings.fine("bars", `every memory BAR can be mapped (${text})`, { source, text });
  }
  const vectors = examineTable(findings, fn, pageBytes, paths);
  return { found: findings.found, vectors };
}

function examineBar(
  findings: Findings,
  fn: HostFunction,
  { index, start, sizeBytes }: HostResource,
  pageBytes: number,
  source: string,
  paths: HostPaths,
): void {
  const evidence: Evidence[] = [
    {
      source,
      text: `BAR ${index} at 0x${start.toString(16)}, ${sizeText(sizeBytes)}; pages have ${sizeText(pageBytes)}`,
    },
  ];
  const device = functionDirectory(paths, fn.address);
  const findAnew = `echo 1 | sudo tee ${device}/remove && echo 1 | sudo tee ${join(paths.sysfsRoot, "bus/pci/rescan")}`;
  if (start === 0) {
    findings.failure("bar-unassigned", `BAR ${index} has no address`, evidence, {
      consequence: "the bridge above it had no room left: its registers cannot be reached",
      remedies: [bootWith(paths, "pci=realloc"), run(findAnew, "let the kernel try again, after others made room")],
    });
  } else if (sizeBytes < pageBytes && start % pageBytes !== 0) {
    const order = Math.log2(pageBytes);
    const choose = `echo ${order}@${fn.address} | sudo tee ${join(paths.sysfsRoot, "bus/pci/resource_alignment")}`;
    findings.warning("bar-sub-page", `BAR ${index} begins inside a page that others use`, evidence, {
      consequence: "the kernel does not map it: every access is a system call, some hundred times slower",
      remedies: [
        run(`${choose} && ${findAnew}`, "give its BARs pages of their own, until the next boot"),
        bootWith(paths, `pci=resource_alignment=${order}@${fn.address}`),
      ],
    });
  } else if (sizeBytes < pageBytes) {
    findings.note("bar-sub-page", `BAR ${index} is smaller than a page`, evidence, {
      consequence: "the kernel maps it where it can keep the rest of the page free, which it usually can here",
    });
  }
}

/** The vectors of the table, where it can be seen. */
function examineTable(findings: Findings, fn: HostFunction, pageBytes: number, paths: HostPaths): number | undefined {
  // Reading more than sysfs has at hand would wake a function that is switched off.
  if (fn.powerState === "D3cold") return undefined;
  const source = join(functionDirectory(paths, fn.address), "config");
  let layout: MsiXLayout | undefined;
  try {
    using access = sysfsAccess({ paths, addresses: [PciAddress.parse(fn.address)] });
    const [accessed] = access.functions;
    if (accessed === undefined) return undefined;
    if (accessed.config.size <= 64) {
      const seen = [{ source, text: "shows an ordinary user its first 64 bytes" }];
      const remedies = [
        run(`sudo ring3 doctor ${fn.address}`, "look as root"),
        run(`ring3 doctor ${fn.address} --dma`, "open it and look there; that resets it"),
      ];
      findings.unseen("msix-table", "whether it has MSI-X is hidden", seen, { remedies });
      return undefined;
    }
    layout = readMsiXLayout(new ConfigSpace(accessed.config));
  } catch {
    // It went away meanwhile, or does not answer, which is said elsewhere.
    return undefined;
  }
  findings.found.push(...tableFindings(fn.address, layout, pageBytes, source));
  return layout?.vectors;
}

/** What the place of the table means; the same for a closed and an open function. */
export function tableFindings(
  address: string,
  layout: MsiXLayout | undefined,
  pageBytes: number,
  source: string,
): readonly Finding[] {
  const findings = new Findings(address);
  if (layout === undefined) {
    const text = "no MSI-X capability";
    findings.fine("msix-table", "it has no MSI-X, so no table to mind", { source, text });
    return findings.found;
  }
  const { vectors, table } = layout;
  const place = `BAR ${table.bar} + 0x${table.offset.toString(16)}`;
  const evidence = { source, text: `table of ${vectors} at ${place}` };
  if (table.offset % pageBytes === 0) {
    findings.fine("msix-table", `${vectors} vectors of MSI-X, their table at the start of a page (${place})`, evidence);
  } else {
    findings.note("msix-table", `the MSI-X table lies inside a page (${place})`, [evidence], {
      consequence:
        "registers may share its page: before Linux 4.16 that page could not be mapped, and a hypervisor must trap it",
    });
  }
  return findings.found;
}

/** The processor's page size, from the auxiliary vector: pairs of 64-bit words. */
function pageSize(paths: HostPaths): number {
  try {
    const bytes = readFileSync(join(paths.procRoot, "self/auxv"));
    for (let at = 0; at + 16 <= bytes.length; at += 16) {
      if (bytes.readBigUInt64LE(at) === AT_PAGESZ) return Number(bytes.readBigUInt64LE(at + 8));
    }
  } catch {
    // Another machine's files: the size that nearly all have.
  }
  return COMMON_PAGE_BYTES;
}

function sizeText(bytes: number): string {
  if (bytes >= 2 ** 20) return `${bytes / 2 ** 20} MiB`;
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} bytes`;
}
