// What the process, and so whatever the user starts from the same shell, may lock and open, read from /proc/self. Under
// sudo the limits are usually those of the user's shell, while the capability that lifts one of them is root's.
import { join } from "node:path";
import type { HostPaths } from "../paths.ts";
import { listNames, readText } from "../sysfs.ts";
import type { User } from "../users.ts";
import { type Evidence, type Finding, Findings, type Remedy, run } from "./finding.ts";
import { userWord } from "./vfio.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
/** What ring3's own drivers map for their queues and some buffers. */
const DEFAULT_DMA_BYTES = 4 * MIB;
/** Below this a guest's memory, or the pools of SPDK and DPDK, will not fit. */
const ROOMY_BYTES = 64 * MIB;
/** Besides the vectors: nodes, event loop, the program's own files. */
const OTHER_DESCRIPTORS = 64;
const CAP_IPC_LOCK = 14n;

export interface Needs {
  /** Bytes of DMA memory that the driver will map at once; 4 MiB by default. */
  readonly dmaBytes?: number | undefined;
  /** Interrupt vectors, each of which takes a descriptor. */
  readonly vectors?: number | undefined;
}

/** Examines RLIMIT_MEMLOCK, RLIMIT_NOFILE and large pages for a driver that `user` will start. */
export function examineLimits(user: User, needs: Needs, paths: HostPaths): Finding[] {
  const findings = new Findings();
  lockedMemory(findings, user, needs.dmaBytes ?? DEFAULT_DMA_BYTES, paths);
  openFiles(findings, user, needs.vectors ?? 0, paths);
  largePages(findings, paths);
  return findings.found;
}

interface Limit {
  /** `undefined` for unlimited. */
  readonly soft: number | undefined;
  readonly hard: number | undefined;
  readonly evidence: Evidence;
}

function readLimit(name: string, paths: HostPaths): Limit | undefined {
  const source = join(paths.procRoot, "self/limits");
  const found = new RegExp(`^${name} +(\\d+|unlimited) +(\\d+|unlimited)`, "m").exec(readText(source) ?? "");
  if (found === null) return undefined;
  const [, soft = "", hard = ""] = found;
  const number = (text: string): number | undefined => (text === "unlimited" ? undefined : Number(text));
  return { soft: number(soft), hard: number(hard), evidence: { source, text: `${name}: ${soft}, at most ${hard}` } };
}

function lockedMemory(findings: Findings, user: User, needed: number, paths: HostPaths): void {
  const limit = readLimit("Max locked memory", paths);
  if (limit === undefined) {
    const source = join(paths.procRoot, "self/limits");
    findings.unseen("memlock", "how much memory may be locked cannot be seen", [{ source, text: "cannot be read" }]);
    return;
  }
  const { soft, hard, evidence } = limit;
  if (soft === undefined) {
    findings.fine("memlock", "memory for DMA is not limited", evidence);
    return;
  }
  if (user.uid === (process.geteuid?.() ?? -1) && mayLockFreely(paths)) {
    const source = join(paths.procRoot, "self/status");
    findings.fine("memlock", "memory for DMA is not limited", { source, text: "CapEff has CAP_IPC_LOCK" }, evidence);
    return;
  }
  const remedies: Remedy[] = [];
  const wanted = Math.ceil(needed / KIB);
  if (hard === undefined || hard >= needed) {
    remedies.push(
      run(`ulimit -l ${hard === undefined ? "unlimited" : wanted}`, "in this shell, before the driver starts"),
    );
  } else {
    remedies.push(run("sudo prlimit --memlock=unlimited --pid $$", "in this shell, before the driver starts"));
  }
  const who = userWord(user);
  const file = "/etc/security/limits.d/90-ring3.conf";
  remedies.push(
    run(
      `echo '${who} - memlock unlimited' | sudo tee -a ${file}`,
      "from the next login on (a service: LimitMEMLOCK=infinity)",
    ),
  );
  if (soft < needed) {
    const text = `only ${sizeText(soft)} may be locked, and ${sizeText(needed)} of DMA memory are wanted`;
    const consequence = "mapping memory for DMA fails with ENOMEM (MEMLOCK_LIMIT), as mapped memory is locked";
    findings.failure("memlock", text, [evidence], { consequence, remedies });
  } else if (soft < ROOMY_BYTES) {
    findings.note("memlock", `${sizeText(soft)} of memory may be mapped for DMA`, [evidence], {
      consequence: "enough for a driver; too little for the memory of a guest or the pools of SPDK and DPDK",
      remedies,
    });
  } else {
    findings.fine("memlock", `${sizeText(soft)} of memory may be mapped for DMA`, evidence);
  }
}

function mayLockFreely(paths: HostPaths): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText(join(paths.procRoot, "self/status")) ?? "")?.[1];
  return ((BigInt(`0x${effective ?? "0"}`) >> CAP_IPC_LOCK) & 1n) === 1n;
}

function openFiles(findings: Findings, user: User, vectors: number, paths: HostPaths): void {
  const limit = readLimit("Max open files", paths);
  if (limit === undefined) return;
  const { soft, hard, evidence } = limit;
  const used = listNames(join(paths.procRoot, "self/fd")).length;
  const needed = used + OTHER_DESCRIPTORS + vectors;
  if (soft === undefined || soft >= needed) {
    findings.fine("nofile", `${soft ?? "any number of"} files may be open`, evidence);
    return;
  }
  const inShell =
    hard === undefined || hard >= needed
      ? run(`ulimit -n ${needed}`, "in this shell, before the driver starts")
      : run(`sudo prlimit --nofile=${needed} --pid $$`, "in this shell, before the driver starts");
  const file = "/etc/security/limits.d/90-ring3.conf";
  const lasting = run(
    `echo '${userWord(user)} - nofile ${Math.max(needed, 65_536)}' | sudo tee -a ${file}`,
    "from the next login on (a service: LimitNOFILE=)",
  );
  const counted: Evidence[] = [evidence, { source: join(paths.procRoot, "self/fd"), text: `${used} are open` }];
  const details = { remedies: [inShell, lasting] };
  if (soft < used + OTHER_DESCRIPTORS) {
    const consequence = "a driver runs out of descriptors (EMFILE) before its first interrupt";
    findings.failure("nofile", `only ${soft} files may be open`, counted, { ...details, consequence });
  } else {
    const consequence = `each interrupt vector takes a descriptor: not all ${vectors} of the function can be used (NOFILE_LIMIT)`;
    findings.warning("nofile", `only ${soft} files may be open`, counted, { ...details, consequence });
  }
}

/** Pinned memory in pages of 2 MiB takes fewer entries of the IOMMU and of the TLB: worth knowing, never needed. */
function largePages(findings: Findings, paths: HostPaths): void {
  const source = join(paths.sysfsRoot, "kernel/mm/transparent_hugepage/enabled");
  const mode = /\[(\w+)\]/.exec(readText(source) ?? "")?.[1];
  if (mode !== "never") return;
  findings.note("large-pages", "transparent large pages are off", [{ source, text: mode }], {
    consequence:
      "DMA memory is made of 4 KiB pages: more mappings in the IOMMU, and a slower device where its TLB is small",
    remedies: [run(`echo madvise | sudo tee ${source}`, "give them to programs that ask, as ring3 does")],
  });
}

function sizeText(bytes: number): string {
  return bytes < MIB ? `${Math.floor(bytes / KIB)} KiB` : `${Math.floor(bytes / MIB)} MiB`;
}
