// The platform: whether the firmware has an IOMMU, whether the kernel uses it, and whether it remaps interrupts. Ordinary
// users cannot read the firmware's tables or the kernel's log, but see the tables' names, the groups and the names of the
// interrupt controllers, in which the kernel says whether it remaps.
import { join } from "node:path";
import type { HostPaths } from "../paths.ts";
import { listNames, present, readText } from "../sysfs.ts";
import { bootWith, bootWithout, bootWords } from "./boot-parameters.ts";
import { byHand, type Evidence, type Finding, Findings, type Remedy, run } from "./finding.ts";

/** ACPI tables that describe an IOMMU, and whose they are. */
const TABLES = { DMAR: "Intel VT-d", IVRS: "AMD-Vi", IORT: "Arm SMMU", VIOT: "virtio-iommu", RIMT: "RISC-V" } as const;
type Table = keyof typeof TABLES;

/** Examines firmware, IOMMU and interrupt remapping. */
export function examinePlatform(paths: HostPaths): Finding[] {
  const findings = new Findings();
  const groups = countGroups(paths);
  const table = firmwareTable(findings, groups, paths);
  // Without anything to switch on, one finding says it.
  if (!findings.found.some(({ severity }) => severity === "failure")) iommuOn(findings, groups, table, paths);
  if (groups > 0) interruptRemapping(findings, paths);
  lockdown(findings, paths);
  return findings.found;
}

/** How many IOMMU groups there are, without those that VFIO makes up where there is no IOMMU. */
export function countGroups(paths: HostPaths): number {
  const names = listNames(join(paths.sysfsRoot, "kernel/iommu_groups"));
  return names.filter((name) => !isWithoutIommu(name, paths)).length;
}

/** Whether VFIO made the group up for a function behind no IOMMU. */
export function isWithoutIommu(group: number | string, paths: HostPaths): boolean {
  return readText(join(paths.sysfsRoot, "kernel/iommu_groups", String(group), "name")) === "vfio-noiommu";
}

function firmwareTable(findings: Findings, groups: number, paths: HostPaths): Table | undefined {
  const place = join(paths.sysfsRoot, "firmware/acpi/tables");
  const names = listNames(place).filter((name) => /^[A-Z]{4}\d*$/.test(name));
  const table = (Object.keys(TABLES) as Table[]).find((name) => names.includes(name));
  if (table !== undefined) {
    const text = `the firmware describes an IOMMU: ${table} (${TABLES[table]})`;
    findings.fine("firmware-iommu", text, { source: place, text: `has ${table}` });
  } else if (names.length === 0) {
    const evidence = [{ source: place, text: "not there" }];
    findings.unseen(
      "firmware-iommu",
      "this machine shows no ACPI tables, so what its firmware has is not seen",
      evidence,
    );
  } else if (groups > 0) {
    findings.fine("firmware-iommu", "the kernel found an IOMMU without a table of the firmware", {
      source: place,
      text: `none of ${Object.keys(TABLES).join(", ")}`,
    });
  } else {
    findings.failure(
      "firmware-iommu",
      "the firmware describes no IOMMU",
      [{ source: place, text: `has ${names.join(" ")}, none of ${Object.keys(TABLES).join(", ")}` }],
      {
        consequence: "no function can be given to user space safely: its DMA would reach all memory",
        remedies: [
          byHand(
            "switch the IOMMU on in the firmware's setup (called VT-d, AMD-Vi, SVM or IOMMU); for a guest of QEMU add " +
              "-device intel-iommu,intremap=on,caching-mode=on and -machine q35,kernel-irqchip=split",
            true,
          ),
        ],
      },
    );
  }
  return table;
}

function iommuOn(findings: Findings, groups: number, table: Table | undefined, paths: HostPaths): void {
  const place = join(paths.sysfsRoot, "kernel/iommu_groups");
  const units = listNames(join(paths.sysfsRoot, "class/iommu"));
  const amount = `${groups} group${groups === 1 ? "" : "s"}`;
  const words = bootWords(paths).filter((word) => /^(?:intel_iommu|amd_iommu|iommu|iommu\.\w+)=/.test(word));
  const evidence: Evidence[] = [
    { source: place, text: groups === 0 ? "none" : amount },
    { source: join(paths.sysfsRoot, "class/iommu"), text: units.length === 0 ? "empty" : units.join(" ") },
    { source: join(paths.procRoot, "cmdline"), text: words.length === 0 ? "says nothing about it" : words.join(" ") },
  ];
  if (groups > 0) {
    findings.fine("iommu-on", `the IOMMU is on: ${amount}`, ...evidence);
    return;
  }
  // Without a table there is nothing that the kernel could switch on, and that is said already.
  findings.failure("iommu-on", "the IOMMU is off: there is not one IOMMU group", evidence, {
    consequence:
      "vfio-pci takes no function, but in the mode without an IOMMU, in which a device can overwrite any memory",
    remedies: switchOn(table, words, paths),
  });
}

function switchOn(table: Table | undefined, words: readonly string[], paths: HostPaths): Remedy[] {
  const off = words.find((word) => /^(?:intel_iommu|amd_iommu|iommu)=.*\boff\b/.test(word));
  if (table === "DMAR") return [bootWith(paths, "intel_iommu=on", off)];
  if (off !== undefined) return [bootWithout(paths, off)];
  return [byHand("the kernel found it and does not use it: see sudo dmesg | grep -i -e iommu -e AMD-Vi -e smmu")];
}

/** Drivers with a switch for those who accept interrupts that a device can forge. */
const UNSAFE_SWITCHES = ["vfio_iommu_type1", "iommufd"] as const;

function interruptRemapping(findings: Findings, paths: HostPaths): void {
  const place = join(paths.procRoot, "interrupts");
  const text = readText(place);
  const controllers = new Set((text ?? "").match(/\b(?:IR-)?(?:PCI-MSIX?|IO-APIC|HPET-MSI)\b/g));
  // Only x86 has interrupts that are plain memory writes unless they are remapped.
  if (text === undefined || controllers.size === 0) {
    const found = text === undefined ? "cannot be read" : "no interrupt controller of x86";
    findings.unseen("interrupt-remapping", "whether interrupts are remapped cannot be seen here", [
      { source: place, text: found },
    ]);
    return;
  }
  const evidence: Evidence[] = [{ source: place, text: [...controllers].join(", ") }];
  if ([...controllers].some((name) => name.startsWith("IR-"))) {
    findings.fine("interrupt-remapping", "interrupts are remapped: a device can raise none but its own", ...evidence);
    return;
  }
  const switches = UNSAFE_SWITCHES.map((name) => {
    return join(paths.sysfsRoot, "module", name, "parameters/allow_unsafe_interrupts");
  }).filter((path) => present(path));
  const accepted = switches.filter((path) => readText(path) === "Y");
  for (const path of switches) evidence.push({ source: path, text: readText(path) ?? "cannot be read" });
  const unable = unitsWithoutRemapping(paths);
  for (const path of unable) evidence.push({ source: path, text: "bit 3 (interrupt remapping) is 0" });
  const off = bootWords(paths).find((word) => word === "nointremap" || /^intremap=.*\boff\b/.test(word));
  const lasting: Remedy[] = [];
  if (off !== undefined) lasting.push(bootWithout(paths, off));
  else if (unable.length === 0)
    lasting.push(byHand("switch on interrupt remapping (VT-d, x2APIC) in the firmware", true));
  if (switches.length > 0 && accepted.length === switches.length) {
    const consequence =
      "a device that somebody in user space controls can forge any interrupt of this machine by a DMA write";
    const revoke = run(`echo 0 | sudo tee ${switches.join(" ")}`, "take the risk no longer; VFIO then refuses");
    findings.warning("interrupt-remapping", "interrupts are not remapped, and that risk was accepted", evidence, {
      consequence,
      remedies: [...lasting, revoke],
    });
    return;
  }
  const accept =
    switches.length > 0
      ? run(
          `echo 1 | sudo tee ${switches.join(" ")}`,
          "accept that devices can forge interrupts, for the whole machine",
        )
      : run(
          "sudo modprobe vfio_iommu_type1 allow_unsafe_interrupts=1",
          "accept that devices can forge interrupts, for the whole machine",
        );
  findings.failure("interrupt-remapping", "interrupts are not remapped", evidence, {
    consequence: "VFIO refuses the IOMMU with EPERM, since a device could forge any interrupt by a DMA write",
    remedies: [...lasting, accept],
  });
}

/** VT-d, section 11.4.3: bit 3 of the extended capability register says whether a unit remaps interrupts. */
function unitsWithoutRemapping(paths: HostPaths): string[] {
  const units = listNames(join(paths.sysfsRoot, "class/iommu"));
  const registers = units.map((name) => join(paths.sysfsRoot, "class/iommu", name, "intel-iommu/ecap"));
  return registers.filter((path) => {
    const text = readText(path);
    return text !== undefined && /^[0-9a-f]+$/i.test(text) && ((BigInt(`0x${text}`) >> 3n) & 1n) === 0n;
  });
}

function lockdown(findings: Findings, paths: HostPaths): void {
  const place = join(paths.sysfsRoot, "kernel/security/lockdown");
  const mode = /\[(\w+)\]/.exec(readText(place) ?? "")?.[1];
  if (mode === undefined || mode === "none") return;
  findings.note(
    "kernel-lockdown",
    `the kernel is locked down (${mode}), as with secure boot`,
    [{ source: place, text: mode }],
    {
      consequence:
        "VFIO works; writing config space through sysfs, mapping BARs there and unsigned modules are refused",
    },
  );
}

/** Bits of a DMA address that the IOMMU above a function translates, where sysfs tells: VT-d, section 11.4.2, MGAW. */
export function addressWidth(directory: string): { bits: number; evidence: Evidence } | undefined {
  const place = join(directory, "iommu/intel-iommu/cap");
  const text = readText(place);
  if (text === undefined || !/^[0-9a-f]+$/i.test(text)) return undefined;
  const bits = Number((BigInt(`0x${text}`) >> 16n) & 0x3fn) + 1;
  return { bits, evidence: { source: place, text } };
}
