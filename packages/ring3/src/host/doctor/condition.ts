// In which condition a function is: asleep or awake, answering or not, how it can be reset, and what it is to its virtual
// functions. Reads sysfs only; a function that is switched off is not woken for it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type HostFunction, readFunction } from "../inventory.ts";
import { isVfioDriver } from "../iommu-groups.ts";
import { functionDirectory, type HostPaths } from "../paths.ts";
import { present, readText } from "../sysfs.ts";
import { byHand, type Evidence, type Finding, Findings, run } from "./finding.ts";
import { addressWidth } from "./platform.ts";

/** Examines power, reset and SR-IOV of `fn`. */
export function examineCondition(fn: HostFunction, paths: HostPaths): Finding[] {
  const findings = new Findings(fn.address);
  const directory = functionDirectory(paths, fn.address);
  power(findings, fn, directory);
  answers(findings, fn, directory, paths);
  reset(findings, fn, directory);
  const width = addressWidth(directory);
  if (width !== undefined) {
    findings.fine("iova-width", `DMA addresses may have ${width.bits} bits`, width.evidence);
  }
  virtualFunctions(findings, fn, paths);
  return findings.found;
}

function power(findings: Findings, fn: HostFunction, directory: string): void {
  const status = readText(join(directory, "power/runtime_status"));
  const evidence: Evidence[] = [{ source: join(directory, "power_state"), text: fn.powerState ?? "not there" }];
  if (status !== undefined) evidence.push({ source: join(directory, "power/runtime_status"), text: status });
  const wake = run(`echo on | sudo tee ${join(directory, "power/control")}`, "wake it, and keep it awake");
  if (status === "error") {
    const consequence = "the kernel no longer tries to wake it, and opening it fails";
    findings.failure("power", "it could not be woken", evidence, { consequence, remedies: [wake] });
  } else if (fn.powerState === "D3cold") {
    findings.warning("power", "it is switched off (D3cold)", evidence, {
      consequence:
        "what reads it meanwhile sees ones; opening it takes long, and a slot with broken power control fails",
      remedies: [wake],
    });
  } else if (fn.powerState !== undefined && fn.powerState !== "unknown") {
    const text = fn.powerState === "D0" ? "it is awake (D0)" : `it sleeps (${fn.powerState}) until it is opened`;
    findings.fine("power", text, ...evidence);
  }
}

function answers(findings: Findings, fn: HostFunction, directory: string, paths: HostPaths): void {
  if (fn.powerState === "D3cold") return;
  const source = join(directory, "config");
  let bytes: Buffer;
  try {
    bytes = readFileSync(source).subarray(0, 4);
  } catch {
    return;
  }
  // A virtual function's ids read as ones by design.
  if (bytes.length < 4 || fn.physicalFunction !== undefined || bytes.some((byte) => byte !== 0xff)) return;
  const rescan = join(paths.sysfsRoot, "bus/pci/rescan");
  findings.failure(
    "not-answering",
    "it does not answer: its config space reads as ones",
    [{ source, text: bytes.toString("hex") }],
    {
      consequence: "it fell off the bus, or its reset never ended; no driver can use it",
      remedies: [
        run(`echo 1 | sudo tee ${directory}/remove && echo 1 | sudo tee ${rescan}`, "let the kernel find it anew"),
        byHand("a power cycle is what is left where that does not help", true),
      ],
    },
  );
}

function reset(findings: Findings, fn: HostFunction, directory: string): void {
  const source = join(directory, "reset_method");
  if (fn.resetMethods.length > 0) {
    const text = fn.resetMethods.join(", ");
    findings.fine("reset-method", `it can be reset (${text})`, { source, text });
    return;
  }
  const consequence = "what one driver leaves in it meets the next one, and a stuck device stays stuck";
  if (present(source)) {
    findings.warning("reset-method", "its reset is switched off", [{ source, text: "empty" }], {
      consequence,
      remedies: [run(`echo default | sudo tee ${source}`, "let the kernel use every method that it has")],
    });
    return;
  }
  findings.warning("reset-method", "the kernel knows no way to reset it", [{ source, text: "not there" }], {
    consequence,
    remedies: [
      byHand(
        "it has no function level reset, and other functions share its bus: a slot of its own gives it the bus reset",
      ),
    ],
  });
}

function virtualFunctions(findings: Findings, fn: HostFunction, paths: HostPaths): void {
  const parent = fn.physicalFunction;
  if (parent !== undefined) {
    const bound = readFunction(parent, paths).driver;
    const evidence = [{ source: join(functionDirectory(paths, parent), "driver"), text: bound ?? "none" }];
    if (bound === undefined || !isVfioDriver(bound)) {
      findings.fine("virtual-function", `it is a virtual function of ${parent} (${bound ?? "no driver"})`, ...evidence);
      return;
    }
    findings.note("virtual-function", `its physical function ${parent} is in user space as well`, evidence, {
      consequence: "it opens only with the token that the physical function's driver set: open(address, { vfToken })",
    });
  } else if (fn.sriov !== undefined && fn.sriov.enabledVfs > 0 && fn.driver !== undefined && isVfioDriver(fn.driver)) {
    const text = String(fn.sriov.enabledVfs);
    const source = join(functionDirectory(paths, fn.address), "sriov_numvfs");
    findings.note("virtual-function", `it has ${text} virtual functions of its own`, [{ source, text }], {
      consequence: "opening it takes a token (vfToken) that its virtual functions then need too",
    });
  }
}
