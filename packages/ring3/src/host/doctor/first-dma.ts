// The proof: what an open function shows of its BARs, interrupts and DMA, and a first mapping, written and read back. Works
// for every back end.
import { isRing3Error, messageOf } from "../../binary/error.ts";
import { readMsiXLayout } from "../../pci/capabilities/msi-x.ts";
import type { BarIndex, PciFunction } from "../../pci/function.ts";
import { byHand, type Finding, Findings, type Remedy, run } from "./finding.ts";
import { tableFindings } from "./regions.ts";

const BARS: readonly BarIndex[] = [0, 1, 2, 3, 4, 5];
const PAGE_BYTES = 4096;
/** Below this many mappings a program that maps memory piece by piece runs out of them. */
const FEW_MAPPINGS = 1024;
const PATTERN = [0x5a, 0xa5, 0x0f, 0xf0] as const;

/** Examines `fn`, which stays the caller's, and maps one page for DMA. */
export function examineOpen(address: string, fn: PciFunction): readonly Finding[] {
  const findings = new Findings(address);
  findings.fine("open", `it opens, through ${fn.identity.backend}`, { source: "open", text: fn.identity.backend });
  barMapping(findings, fn);
  findings.found.push(...tableFindings(address, readMsiXLayout(fn.config), PAGE_BYTES, "config space"));
  const { intx, msi, msix } = fn.interrupts.available;
  const vectors = `INTx ${intx}, MSI ${msi}, MSI-X ${msix}`;
  if (intx + msi + msix > 0)
    findings.fine("interrupts", `it offers interrupts: ${vectors}`, { source: "open", text: vectors });
  else {
    findings.note("interrupts", "it offers no interrupts", [{ source: "open", text: vectors }], {
      consequence: "its driver has to poll",
    });
  }
  firstMapping(findings, fn);
  return findings.found;
}

/** What it means that `address` could not be opened. */
export function examineRefusal(address: string, error: unknown): readonly Finding[] {
  if (!isRing3Error(error)) throw error;
  const findings = new Findings(address);
  findings.failure("open", "it cannot be opened", [{ source: error.call ?? "open", text: error.errno ?? error.code }], {
    consequence: error.message,
    remedies: commandIn(error.message),
  });
  return findings.found;
}

/** The command that an error's sentence names, behind a word that says so. */
function commandIn(message: string): Remedy[] {
  const command = /`([^`]+)`/.exec(message)?.[1] ?? /: (sudo ring3 [^,;.(]+\S)/.exec(message)?.[1];
  return command === undefined ? [byHand("see the message")] : [run(command.trim(), "what the error proposes")];
}

function barMapping(findings: Findings, fn: PciFunction): void {
  const bars = BARS.map((index) => fn.bar(index)).filter(({ size, kind }) => size > 0 && kind !== "io");
  for (const { index, size, mappable } of bars) {
    const mapped = mappable.reduce((sum, range) => sum + range.size, 0);
    const evidence = { source: "open", text: `BAR ${index}: ${mapped} of ${size} bytes can be mapped` };
    if (mapped >= size) findings.fine("bar-mapping", `BAR ${index} can be mapped as a whole`, evidence);
    else {
      const text = mapped === 0 ? `BAR ${index} cannot be mapped` : `BAR ${index} can be mapped in part`;
      findings.note("bar-mapping", text, [evidence], {
        consequence: "the rest is reached by system calls, which is slower",
      });
    }
  }
}

function firstMapping(findings: Findings, fn: PciFunction): void {
  const { ranges, mappingsLeft, pageSizes } = fn.dma.limits();
  const spans = ranges.map(({ first, last }) => `${first.toString(16)}-${last.toString(16)}`).join(" ");
  const top = ranges.at(-1)?.last ?? 0;
  const bits = top === 0 ? 0 : Math.ceil(Math.log2(top));
  const seen = [{ source: "dma.limits", text: `addresses ${spans}, pages ${pageSizes.join(" ")}` }];
  if (mappingsLeft !== undefined && mappingsLeft < FEW_MAPPINGS) {
    const consequence = "further ones fail with ENOSPC";
    const details = { consequence, remedies: [byHand("unmap what is not used, or raise the limit (dma-mappings)")] };
    findings.warning("mappings-left", `only ${mappingsLeft} more mappings are taken`, seen, details);
  }
  try {
    using buffer = fn.dma.allocate(PAGE_BYTES);
    buffer.bytes.set(PATTERN);
    const kept = PATTERN.every((byte, index) => buffer.bytes[index] === byte);
    const inside = ranges.some(({ first, last }) => buffer.iova >= first && buffer.iova + buffer.size - 1 <= last);
    const text = `${buffer.size} bytes at IOVA 0x${buffer.iova.toString(16)}`;
    if (!kept || !inside) throw new Error(`the mapping is not what it says: ${text}`);
    findings.fine("first-dma", `memory is mapped for DMA: ${text}, of up to ${bits} bits`, ...seen);
  } catch (error) {
    const message = messageOf(error);
    findings.failure(
      "first-dma",
      "no memory can be mapped for DMA",
      [...seen, { source: "dma.allocate", text: message }],
      {
        consequence: message,
        remedies: commandIn(message),
      },
    );
  }
}
