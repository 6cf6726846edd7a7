// VFIO in this kernel: the driver, the two interfaces with their shared nodes, dangerous switches, and what earlier
// bindings left behind. A node in /dev outlives its device wherever /dev is not the kernel's own devtmpfs.
import { join } from "node:path";
import { bindingRecordPath, readSharedNodes, recordedAddresses } from "../binding-records.ts";
import type { Host } from "../binding-steps.ts";
import { accessListOf } from "../node-steps.ts";
import { containerNode, iommufdNode, listVfioNodes, mayOpen, type VfioNode } from "../nodes.ts";
import { driverDirectory, functionDirectory, type HostPaths } from "../paths.ts";
import { present, readNumber, readText } from "../sysfs.ts";
import { type User, userName } from "../users.ts";
import { countGroups } from "./platform.ts";
import { type Finding, Findings, run } from "./finding.ts";

/** Fewer mappings than this leave no room for a program that maps memory piece by piece. */
const FEW_MAPPINGS = 1024;
const DEFAULT_MAPPINGS = 65_535;
/** Major and minor number of /dev/vfio/vfio, which are fixed (include/linux/miscdevice.h, VFIO_MINOR). */
const VFIO_NUMBER = "10:196";

export async function examineVfio(user: User, host: Host): Promise<Finding[]> {
  const findings = new Findings();
  const { paths } = host;
  vfioDriver(findings, paths);
  await sharedNodes(findings, user, host);
  withoutIommu(findings, paths);
  mappingLimit(findings, paths);
  staleNodes(findings, paths);
  staleRecords(findings, paths);
  return findings.found;
}

function vfioDriver(findings: Findings, paths: HostPaths): void {
  const place = driverDirectory(paths, "vfio-pci");
  if (present(place)) {
    findings.fine("vfio-driver", "vfio-pci is there", { source: place, text: "there" });
    return;
  }
  findings.note("vfio-driver", "vfio-pci is not loaded", [{ source: place, text: "not there" }], {
    consequence:
      "ring3 bind loads it; where the kernel has no such module, install the rest of its modules " +
      "(linux-modules-extra on Ubuntu) or a kernel with CONFIG_VFIO_PCI",
    remedies: [run("sudo modprobe vfio-pci", "load it now")],
  });
}

async function sharedNodes(findings: Findings, user: User, host: Host): Promise<void> {
  const { paths } = host;
  const container = containerNode(paths);
  const iommufd = iommufdNode(paths);
  const have = [container, iommufd].filter((node) => node !== undefined);
  const evidence = have.map((node) => describeNode(node, paths));
  if (have.length === 0) {
    if (!present(driverDirectory(paths, "vfio-pci"))) return;
    const names = `${paths.devRoot}/vfio/vfio and ${paths.devRoot}/iommu`;
    const number = readText(join(paths.sysfsRoot, "class/misc/vfio/dev")) ?? VFIO_NUMBER;
    findings.failure(
      "vfio-nodes",
      "the kernel has VFIO, but /dev has none of its nodes",
      [{ source: names, text: "not there" }],
      {
        consequence: "nothing can be opened",
        remedies: [
          run(
            `sudo mkdir -p ${paths.devRoot}/vfio && sudo mknod -m 0666 ${paths.devRoot}/vfio/vfio c ${number.replace(":", " ")}`,
            "make the container's node; in a container of its own /dev pass the nodes in from outside instead",
          ),
        ],
      },
    );
    return;
  }
  const ways = [container === undefined ? undefined : "groups", iommufd === undefined ? undefined : "iommufd"];
  const names = ways.filter((way) => way !== undefined).join(" and ");
  findings.fine("vfio-interface", `the kernel offers VFIO through ${names}`, ...evidence);
  if (container === undefined || mayOpen(container, user, await accessListOf(host, container.path))) return;
  findings.failure(
    "vfio-container",
    `${nameOf(user)} may not open ${container.path}`,
    [describeNode(container, paths)],
    {
      consequence: "the group interface does not work; the container alone reaches no device, so everybody may open it",
      remedies: [run(`sudo chmod 0666 ${container.path}`, "let everybody open it, as the kernel does by itself")],
    },
  );
}

function withoutIommu(findings: Findings, paths: HostPaths): void {
  const place = join(paths.sysfsRoot, "module/vfio/parameters/enable_unsafe_noiommu_mode");
  if (readText(place) !== "Y") return;
  const needed = countGroups(paths) > 0 ? "" : "; a real IOMMU is what mends this (iommu-on)";
  findings.warning("noiommu-mode", "VFIO's mode without an IOMMU is on", [{ source: place, text: "Y" }], {
    consequence: `functions in no group can be bound, and then overwrite any memory of this machine${needed}`,
    remedies: [run(`echo 0 | sudo tee ${place}`, "switch it off")],
  });
}

function mappingLimit(findings: Findings, paths: HostPaths): void {
  const place = join(paths.sysfsRoot, "module/vfio_iommu_type1/parameters/dma_entry_limit");
  const limit = readNumber(place);
  if (limit === undefined) return;
  const evidence = [{ source: place, text: String(limit) }];
  if (limit >= FEW_MAPPINGS) {
    findings.fine("dma-mappings", `a container takes ${limit} DMA mappings`, ...evidence);
    return;
  }
  findings.warning("dma-mappings", `a container takes only ${limit} DMA mappings`, evidence, {
    consequence: "the group interface says ENOSPC for every further one",
    remedies: [
      run(
        `echo ${DEFAULT_MAPPINGS} | sudo tee ${place}`,
        "the kernel's own default, for containers opened from then on",
      ),
    ],
  });
}

/** Nodes whose device the kernel no longer has. */
function staleNodes(findings: Findings, paths: HostPaths): void {
  for (const node of listVfioNodes(paths)) {
    const folder = node.kind === "group" ? "class/vfio" : node.kind === "device" ? "class/vfio-dev" : undefined;
    if (folder === undefined || node.name === undefined) continue;
    const announced = join(paths.sysfsRoot, folder, node.name);
    if (present(announced)) continue;
    const evidence = [describeNode(node, paths), { source: announced, text: "not there" }];
    findings.warning("stale-node", `${node.path} has no device behind it`, evidence, {
      consequence: "opening it says ENODEV, or reaches whatever gets its number next",
      remedies: [run(`sudo rm ${node.path}`, "take it away; the kernel makes nodes itself")],
    });
  }
}

/** What was noted in /run for a binding that is no more, or was cut off. */
function staleRecords(findings: Findings, paths: HostPaths): void {
  const recorded = recordedAddresses(paths);
  for (const address of recorded) {
    const place = bindingRecordPath(paths, address);
    if (present(functionDirectory(paths, address))) continue;
    const evidence = [
      { source: place, text: "says that ring3 bound it" },
      { source: functionDirectory(paths, address), text: "not there" },
    ];
    findings.warning("stale-record", `${address} was bound, and has been unplugged since`, evidence, {
      consequence: "the shared nodes are not given back to root as long as this is noted",
      remedies: [run(`sudo ring3 unbind ${address}`, "forget it")],
    });
  }
  if (recorded.length > 0) return;
  for (const [path, { uid }] of Object.entries(readSharedNodes(paths))) {
    const node = iommufdNode(paths);
    if (node?.path !== path) continue;
    findings.warning(
      "stale-owner",
      `${path} is still as a binding left it, and nothing is bound`,
      [
        describeNode(node, paths),
        { source: join(paths.runRoot, "ring3/shared-nodes.json"), text: `was of uid ${uid}` },
      ],
      {
        consequence: "somebody may open it who no longer should",
        remedies: [run("sudo ring3 unbind", "give it back to its first owner")],
      },
    );
  }
}

/** A node with its owner and mode, as `ls -l` would say. */
export function describeNode({ path, uid, mode }: VfioNode, paths: HostPaths): { source: string; text: string } {
  return {
    source: path,
    text: `of ${userName(uid, paths) ?? `uid ${uid}`}, mode 0${mode.toString(8).padStart(3, "0")}`,
  };
}

export function nameOf({ name, uid }: User): string {
  return name ?? `uid ${uid}`;
}

/** The word by which a user is given on a command line. */
export function userWord({ name, uid }: User): string {
  return name ?? String(uid);
}
