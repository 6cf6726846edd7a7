// The doctor: from the firmware to the first DMA, what is there, what is missing, what it means and what mends it. Composes
// the checks; each lies in the file of its subject.
import { join } from "node:path";
import type { Host } from "../binding-steps.ts";
import { type HostFunction, listFunctions, readFunction } from "../inventory.ts";
import { isVfioDriver } from "../iommu-groups.ts";
import { functionDirectory } from "../paths.ts";
import type { User } from "../users.ts";
import { examineCondition } from "./condition.ts";
import { byHand, type Finding, Findings, type Severity } from "./finding.ts";
import { examineLimits, type Needs } from "./limits.ts";
import { examineOwnership } from "./ownership.ts";
import { examinePlatform } from "./platform.ts";
import { examineRegions } from "./regions.ts";
import { examineVfio } from "./vfio.ts";

export interface ExamineRequest extends Needs {
  /** The functions to look at; by default those that are bound to VFIO. */
  readonly addresses?: readonly string[] | undefined;
  /** Who wants to drive them. */
  readonly user: User;
}

/** `fine` counts notes as fine; what could not be seen does not change it. */
export type Verdict = "fine" | "warnings" | "failures";

export interface Diagnosis {
  readonly user: User;
  readonly addresses: readonly string[];
  readonly verdict: Verdict;
  /** From the firmware to the first DMA; first the machine, then each function. */
  readonly findings: readonly Finding[];
}

/**
 * Examines the machine and functions for a user, by reading only: nothing is opened, reset or woken. Works without
 * privilege; what could not be seen is a finding as well. Throws `FUNCTION_NOT_FOUND` and `ADDRESS_INVALID`.
 */
export async function examine(request: ExamineRequest, host: Host): Promise<Diagnosis> {
  const { paths } = host;
  const chosen = request.addresses ?? [];
  const functions =
    chosen.length > 0
      ? chosen.map((address) => readFunction(address, paths))
      : listFunctions(paths).filter(({ driver }) => driver !== undefined && isVfioDriver(driver));
  const regions = functions.filter(({ bridge }) => !bridge).map((fn) => examineRegions(fn, paths));
  const seen = Math.max(0, ...regions.map(({ vectors }) => vectors ?? 0));
  const machine = [
    ...examinePlatform(paths),
    ...(await examineVfio(request.user, host)),
    ...examineLimits(request.user, { vectors: seen, ...request }, paths),
  ];
  const findings: Finding[] = [...machine];
  for (const fn of functions) {
    if (fn.bridge) {
      findings.push(...bridge(fn, host));
      continue;
    }
    findings.push(...(await examineOwnership(fn, request.user, host)), ...examineCondition(fn, paths));
    findings.push(...(regions.shift()?.found ?? []));
  }
  return diagnosis(
    request.user,
    functions.map(({ address }) => address),
    findings,
  );
}

/** Adds what was found since, such as with the function open, and judges anew. */
export function withFindings({ user, addresses, findings }: Diagnosis, more: readonly Finding[]): Diagnosis {
  // What an open function shows is better than that it was hidden before.
  const known = new Set(more.map(({ id, address }) => `${id} ${address}`));
  const kept = findings.filter(({ id, address, severity }) => severity !== "unseen" || !known.has(`${id} ${address}`));
  return diagnosis(user, addresses, [...kept, ...more]);
}

function diagnosis(user: User, addresses: readonly string[], findings: readonly Finding[]): Diagnosis {
  const has = (severity: Severity): boolean => findings.some((finding) => finding.severity === severity);
  const verdict = has("failure") ? "failures" : has("warning") ? "warnings" : "fine";
  return { user, addresses, verdict, findings };
}

function bridge(fn: HostFunction, { paths }: Host): readonly Finding[] {
  const findings = new Findings(fn.address);
  const source = join(functionDirectory(paths, fn.address), "class");
  findings.failure("bridge", "it is a bridge", [{ source, text: `0x${fn.classCode.toString(16).padStart(6, "0")}` }], {
    consequence: "VFIO drives no bridge, and a bridge in a group is no obstacle",
    remedies: [byHand("name an endpoint below it: ring3 ls")],
  });
  return findings.found;
}
