// Who has a function: its driver and what the machine does through that, the members of its group, the owners of its nodes,
// and the processes that have them open.
import { join } from "node:path";
import { functionAccess } from "../access.ts";
import type { AccessList } from "../access-list.ts";
import { bindingRecordPath, readBindingRecord } from "../binding-records.ts";
import type { Host } from "../binding-steps.ts";
import { findHolders } from "../holders.ts";
import { machineUses } from "../in-use.ts";
import type { HostFunction } from "../inventory.ts";
import { type IommuGroup, isVfioDriver, readGroup } from "../iommu-groups.ts";
import { accessListOf } from "../node-steps.ts";
import { containerNode, deviceNode, groupNode, iommufdNode } from "../nodes.ts";
import { functionDirectory, type HostPaths } from "../paths.ts";
import { readText } from "../sysfs.ts";
import { findRules, hasUdev } from "../udev-rules.ts";
import { type User, userName } from "../users.ts";
import { byHand, type Evidence, type Finding, Findings, run } from "./finding.ts";
import { countGroups, isWithoutIommu } from "./platform.ts";
import { describeNode, nameOf, userWord } from "./vfio.ts";

/** Examines who has `fn`, and whether `user` could have it. */
export async function examineOwnership(fn: HostFunction, user: User, host: Host): Promise<Finding[]> {
  const { paths } = host;
  const findings = new Findings(fn.address);
  const group = fn.iommuGroup === undefined ? undefined : readGroup(fn.iommuGroup, paths);
  const others = (group?.blockers ?? []).filter(({ name }) => name !== fn.address);
  cutOff(findings, fn, user, paths);
  driver(findings, fn, others.length > 0, user, host);
  if (group === undefined || isWithoutIommu(group.id, paths)) groupMissing(findings, fn, group, paths);
  else groupViable(findings, fn, group, user, host);
  if (fn.driver !== undefined && isVfioDriver(fn.driver) && group !== undefined) {
    if (others.length === 0) await permission(findings, fn, user, host);
    held(findings, fn, user, paths);
    lasting(findings, fn, user, paths);
  }
  return findings.found;
}

/** `--user` and what else a binding for this user takes. */
function bindCommand(address: string, user: User, ...options: readonly string[]): string {
  const who = user.uid === 0 ? [] : ["--user", userWord(user)];
  return ["sudo ring3 bind", address, ...options, ...who].join(" ");
}

function cutOff(findings: Findings, fn: HostFunction, user: User, paths: HostPaths): void {
  const record = readBindingRecord(paths, fn.address);
  if (record === undefined || record.driver === null || fn.driver === record.driver) return;
  const evidence: Evidence[] = [
    {
      source: bindingRecordPath(paths, fn.address),
      text: `${record.driver} has it, formerly ${record.formerDriver ?? "none"}`,
    },
    { source: join(functionDirectory(paths, fn.address), "driver"), text: fn.driver ?? "none" },
  ];
  findings.warning("binding-cut-off", "a binding was cut off half-way", evidence, {
    consequence: "it is neither with VFIO nor back where it was",
    remedies: [
      run(bindCommand(fn.address, user), "go on to the end"),
      run(`sudo ring3 unbind ${fn.address}`, "go back to the former driver"),
    ],
  });
}

function driver(findings: Findings, fn: HostFunction, shared: boolean, user: User, host: Host): void {
  const place = join(functionDirectory(host.paths, fn.address), "driver");
  const evidence: Evidence[] = [{ source: place, text: fn.driver ?? "none" }];
  if (fn.driver !== undefined && (isVfioDriver(fn.driver) || fn.vfioDevice !== undefined)) {
    findings.fine("driver", `${fn.driver} has it`, ...evidence);
    return;
  }
  const uses = machineUses(fn.address, host.paths, host.operations);
  if (uses.length > 0) {
    const stops = uses.flatMap(({ text, stop }) => {
      return stop === undefined
        ? [byHand(`${text}: the machine needs it, leave it alone`)]
        : [run(stop, `because ${text}`)];
    });
    const seen = uses.map(({ text }) => ({ source: fn.address, text }));
    findings.warning("machine-uses-it", "this machine uses it", seen, {
      consequence: "ring3 bind refuses it without --force",
      remedies: stops,
    });
  }
  if (fn.driverOverride !== undefined) {
    evidence.push({ source: place.replace(/driver$/, "driver_override"), text: fn.driverOverride });
  }
  const command = bindCommand(fn.address, user, ...(shared ? ["--group"] : []));
  findings.failure(
    "driver",
    fn.driver === undefined ? "no driver has it" : `the kernel's ${fn.driver} has it`,
    evidence,
    {
      consequence: "only a function that is bound to vfio-pci can be opened",
      remedies: [run(command, shared ? "bind it, with the rest of its group" : "bind it")],
    },
  );
}

function groupMissing(findings: Findings, fn: HostFunction, group: IommuGroup | undefined, paths: HostPaths): void {
  // Where nothing has a group, the finding about the machine says so, once.
  if (countGroups(paths) === 0) return;
  const source = join(functionDirectory(paths, fn.address), "iommu_group");
  const seen = { source, text: group === undefined ? "not there" : "vfio-noiommu" };
  findings.failure("iommu-group", "it is in no IOMMU group", [seen], {
    consequence: "the IOMMU does not cover it, so VFIO takes it only in the mode without an IOMMU",
    remedies: [byHand("use a slot that the IOMMU covers; a function of the chipset may have none")],
  });
}

function groupViable(findings: Findings, fn: HostFunction, group: IommuGroup, user: User, host: Host): void {
  const place = join(host.paths.sysfsRoot, "kernel/iommu_groups", String(group.id));
  const others = group.members.filter(({ name }) => name !== fn.address);
  const blockers = group.blockers.filter(({ name }) => name !== fn.address);
  const direct = (readText(join(place, "reserved_regions")) ?? "")
    .split("\n")
    .filter((line) => line.endsWith(" direct"));
  if (direct.length > 0) {
    findings.failure(
      "firmware-memory",
      "the firmware keeps memory for itself through this function",
      direct.map((text) => ({ source: join(place, "reserved_regions"), text })),
      {
        consequence: "Intel's IOMMU refuses to hand it over (RMRR), since the firmware's accesses would be cut off",
        remedies: [
          byHand("switch off the firmware's use of it (shared memory of management controllers) in its setup", true),
        ],
      },
    );
  }
  const evidence = others.map(({ name, driver: bound }) => ({
    source: join(place, "devices", name),
    text: bound ?? "no driver",
  }));
  if (blockers.length === 0) {
    const alone = others.length === 0 ? "alone in it" : `with ${others.map(({ name }) => name).join(", ")}`;
    const text = `IOMMU group ${group.id} can be opened (${alone})`;
    findings.fine("group-viable", text, { source: place, text: group.type ?? "there" }, ...evidence);
    return;
  }
  const names = blockers.map(({ name, driver: bound }) => `${name} (${bound})`).join(", ");
  const used = blockers.flatMap(({ name }) =>
    machineUses(name, host.paths, host.operations).map(({ text }) => `${name}: ${text}`),
  );
  const seen = used.map((text) => ({ source: "in use", text }));
  findings.failure("group-viable", `IOMMU group ${group.id} is shared with ${names}`, [...evidence, ...seen], {
    consequence:
      "the IOMMU cannot tell them apart, so the kernel opens the group only when no driver of its own has a member",
    remedies:
      used.length === 0
        ? [run(bindCommand(fn.address, user, "--group"), "bind the whole group")]
        : [
            byHand(
              "put the card into a slot with a group of its own (sudo ring3 groups shows why they share one)",
              true,
            ),
          ],
  });
}

async function permission(findings: Findings, fn: HostFunction, user: User, host: Host): Promise<void> {
  const { paths } = host;
  const group = groupNode(fn.iommuGroup ?? -1, paths);
  const device = fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, paths);
  const own = [group, device].filter((node) => node !== undefined);
  const [first] = own;
  if (first === undefined) {
    const place = `${paths.devRoot}/vfio/${fn.iommuGroup}`;
    const number = readText(join(paths.sysfsRoot, "class/vfio", String(fn.iommuGroup), "dev"))?.replace(":", " ");
    findings.failure("node-missing", "it is bound, but has no node", [{ source: place, text: "not there" }], {
      consequence: "nobody can open it: /dev is not the kernel's own, as in a container",
      remedies: [
        number === undefined
          ? byHand(`pass ${place} into the container`)
          : run(`sudo mknod -m 0600 ${place} c ${number}`, "make the node; a container is given it from outside"),
      ],
    });
    return;
  }
  const lists = new Map<string, AccessList>();
  for (const node of [...own, containerNode(paths), iommufdNode(paths)]) {
    const list = node === undefined ? undefined : await accessListOf(host, node.path);
    if (node !== undefined && list !== undefined) lists.set(node.path, list);
  }
  const access = functionAccess(fn, user, paths, lists);
  const evidence = own.map((node) => describeNode(node, paths));
  if (access.open) {
    const ways = access.paths.filter(({ open }) => open).map((way) => way.interface);
    findings.fine("permission", `${nameOf(user)} may open it, through ${ways.join(" and ")}`, ...evidence);
    return;
  }
  const command = `sudo ring3 permit ${fn.address} --user ${userWord(user)}`;
  const owned = own.find(({ uid }) => uid !== 0 && uid !== user.uid);
  const unknown = owned !== undefined && userName(owned.uid, paths) === undefined;
  if (owned !== undefined && unknown) {
    const text = `${owned.path} belongs to uid ${owned.uid}, which is nobody here`;
    findings.failure("stale-owner", text, evidence, {
      consequence: `${nameOf(user)} may not open it`,
      remedies: [run(`${command} --force`, `give it to ${nameOf(user)} instead`)],
    });
    return;
  }
  findings.failure("permission", `${nameOf(user)} may not open it`, evidence, {
    consequence: access.reason ?? "opening it says EACCES",
    remedies:
      owned === undefined
        ? [run(command, "give the nodes away; no rebinding")]
        : [
            run(`${command} --acl`, `share it with ${userName(owned.uid, paths)}`),
            run(`${command} --force`, "take it over"),
          ],
  });
}

function held(findings: Findings, fn: HostFunction, user: User, paths: HostPaths): void {
  const nodes = [
    groupNode(fn.iommuGroup ?? -1, paths),
    fn.vfioDevice === undefined ? undefined : deviceNode(fn.vfioDevice, paths),
  ].filter((node) => node !== undefined);
  const found = findHolders(
    nodes.map(({ path }) => path),
    [fn.address],
    paths,
  );
  const holders = found.holders.filter(({ pid }) => pid !== process.pid);
  if (holders.length > 0) {
    const evidence = holders.map(({ pid, command, uid, path }) => {
      return {
        source: `process ${pid} of ${userName(uid, paths) ?? `uid ${uid}`}`,
        text: `${command.slice(0, 80)} has ${path} open`,
      };
    });
    const pids = [...new Set(holders.map(({ pid }) => pid))];
    const sudo = holders.every(({ uid }) => uid === user.uid) ? "" : "sudo ";
    findings.failure(
      "held",
      `${pids.length === 1 ? "a process has" : `${pids.length} processes have`} it open`,
      evidence,
      {
        consequence: "opening it says EBUSY: one program at a time",
        remedies: [run(`${sudo}kill ${pids.join(" ")}`, "end it, once it may end")],
      },
    );
  } else if (found.complete) {
    findings.fine("held", "no process has it open", { source: join(paths.procRoot, "*/fd"), text: "all looked at" });
  } else {
    const seen = [{ source: join(paths.procRoot, "*/fd"), text: "those of other users are hidden" }];
    const remedies = [run(`sudo ring3 who ${fn.address}`, "look as root")];
    findings.unseen("held", "whether a process of another user has it open is hidden", seen, { remedies });
  }
}

/** A binding ends with the kernel that knows of it, unless a rule makes it again. */
function lasting(findings: Findings, fn: HostFunction, user: User, paths: HostPaths): void {
  if (!hasUdev(paths)) return;
  const rules = findRules(paths, fn.address);
  if (rules.length > 0) {
    const evidence = rules.map(({ path, uid }) => ({
      source: path,
      text: `for ${userName(uid, paths) ?? `uid ${uid}`}`,
    }));
    findings.fine("lasting", "it is bound again at each boot", ...evidence);
    return;
  }
  const source = join(paths.etcRoot, "udev/rules.d");
  const who = user.uid === 0 ? "USER" : userWord(user);
  findings.note("lasting", "its binding ends at the next boot", [{ source, text: "no rule of ring3" }], {
    consequence: "it is then back with the kernel's driver",
    remedies: [run(`sudo ring3 permit ${fn.address} --user ${who} --persist`, "bind it at each boot")],
  });
}
