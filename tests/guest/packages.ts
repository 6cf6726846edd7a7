// Debian packages for the guest, unpacked into the cache and never installed: apt works with private directories and
// the mirror of this machine's own apt configuration, and checks every signature with Debian's archive keyring.
// The hard part is trust: an old machine may not know the suite's key, then the newer keyring comes from its own suite.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cacheDirectory, cached, command, GuestUnavailable, type Progress } from "./cache.ts";

/** What is fetched together. */
export interface PackageGroup {
  readonly name: string;
  readonly packages: readonly string[];
  /** Limits what is unpacked to matching package names. */
  readonly unpack?: RegExp;
  /** From the machine's own release, to be used with the machine's own libraries. */
  readonly own?: boolean;
}

export type GroupName =
  | "qemu"
  | "kernel"
  | "filesystem"
  | "peers"
  | "network"
  | "dnsmasq"
  | "dbus"
  | "systemd"
  | "dpdk"
  | "kernelSource"
  | "kernelTools";

export const GROUPS: Readonly<Record<GroupName, PackageGroup>> = {
  qemu: { name: "qemu", packages: ["qemu-system-x86", "busybox-static", "xz-utils"] },
  kernel: { name: "kernel", packages: ["linux-image-amd64"], unpack: /^linux-(image|binary|modules)-/ },
  filesystem: {
    name: "filesystem",
    packages: ["e2fsprogs"],
    unpack: /^(e2fsprogs|libext2fs|libss2|libcom-err2|libblkid1|libuuid1)/,
    own: true,
  },
  peers: { name: "peers", packages: ["fio", "qemu-utils", "pciutils"] },
  network: { name: "network", packages: ["tcpdump"] },
  dnsmasq: { name: "dnsmasq", packages: ["dnsmasq-base"], unpack: /^(dnsmasq-base_|lib)/ },
  dbus: { name: "dbus", packages: ["dbus-daemon"], unpack: /^(dbus-daemon_|lib)/ },
  // What an ordinary Debian has of it: libseccomp and libmount come as recommendations. Node is built for libstdc++.
  systemd: {
    name: "systemd",
    packages: [
      "systemd",
      "udev",
      "dbus",
      "kmod",
      "mount",
      "libseccomp2",
      "libmount1",
      "libacl1",
      "libstdc++6",
      "e2fsprogs",
    ],
  },
  // testpmd with its drivers, without what is for building against them.
  dpdk: {
    name: "dpdk",
    packages: ["dpdk-dev"],
    unpack: /^(dpdk-dev_|ibverbs-providers_|(?!libdpdk-dev|libpython)(lib|zlib1g_)(?!.*-dev_))/,
  },
  kernelSource: { name: "kernel-source", packages: ["linux-source"], unpack: /^linux-source/ },
  kernelTools: {
    name: "kernel-tools",
    packages: ["flex", "bison", "bc", "libelf-dev", "m4"],
    unpack: /^(flex|bison|bc|m4|libelf|libfl|libsigsegv|libreadline|zlib1g-dev)/,
    own: true,
  },
};

/** The suite: the first of Debian that has QEMU >= 10.1 without backports. */
const SUITE = "forky";

interface Source {
  readonly uris: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** The value of the `Signed-By` field: paths, or an inline key over several lines. */
  readonly signedBy: string | undefined;
}

/** Fetches and unpacks a group once; returns the directory that holds its `usr`. */
export async function packageRoot(group: PackageGroup, progress: Progress): Promise<string> {
  const key = createHash("sha256").update(JSON.stringify([SUITE, group.packages, String(group.unpack)]));
  const name = `packages/${group.name}-${key.digest("hex").slice(0, 12)}`;
  return await cached(name, async (directory) => {
    const { apt, suite } = await privateApt(group.own ?? false, progress);
    const wanted = (await apt(["install", "--print-uris", "-qq", ...group.packages])).trim().split("\n");
    const files = wanted.map((line) => {
      const [, file = "", size = "0"] = line.split(" ");
      return { file, size: Number(size) };
    });
    const megabytes = Math.ceil(files.reduce((sum, { size }) => sum + size, 0) / 1e6);
    progress(`fetching ${group.packages.join(", ")}: ${files.length} packages, ${megabytes} MB, from Debian ${suite}`);
    await apt(["install", "--download-only", "--yes", "-qq", ...group.packages]);
    const archives = join(aptDirectory(), "cache/archives");
    const chosen = files.filter(({ file }) => group.unpack?.test(file) ?? true);
    progress(`unpacking ${chosen.length} packages into ${join(cacheDirectory(), name)}`);
    // A merged /usr first: packages that still ship /lib must not make a directory of it.
    for (const link of ["bin", "sbin", "lib", "lib64"]) {
      await mkdir(join(directory, "usr", link), { recursive: true });
      await command("ln", ["-s", `usr/${link}`, join(directory, link)]);
    }
    for (const path of ["dev", "proc", "sys", "tmp"]) await mkdir(join(directory, path));
    for (const { file } of chosen) await command("dpkg", ["-x", join(archives, file), directory]);
    for (const { file } of files) await rm(join(archives, file), { force: true });
  });
}

interface Apt {
  readonly apt: (args: readonly string[]) => Promise<string>;
  readonly suite: string;
}

/** Gives apt-get in private directories with the suite's lists up to date. */
async function privateApt(fromOwn: boolean, progress: Progress): Promise<Apt> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    throw new GuestUnavailable(`the guest's packages are unpacked for x86-64 Linux, this is ${process.arch}`);
  }
  if (!existsSync("/usr/bin/apt-get") || !existsSync("/usr/bin/dpkg")) {
    throw new GuestUnavailable("the guest's packages come through apt and dpkg, and this machine has none");
  }
  const [own, codename] = debianSource();
  const suite = fromOwn ? codename : SUITE;
  const apt = aptIn(aptDirectory());
  await useSource(aptDirectory(), { ...own, suites: [suite] });
  progress(`reading the package lists of Debian ${suite}`);
  try {
    await apt(["update", "-qq"]);
  } catch (error) {
    if (!(error instanceof Error) || !/NO_PUBKEY|not signed|couldn't be verified/.test(error.message)) throw error;
    progress(`this machine does not know the key of ${suite}: taking Debian's newer keyring from ${codename}`);
    const signedBy = await newerKeyring(own, codename);
    await useSource(aptDirectory(), { ...own, signedBy, suites: [suite] });
    await apt(["update", "-qq"]);
  }
  return { apt, suite };
}

function aptDirectory(): string {
  return join(cacheDirectory(), "apt");
}

/** apt-get that sees nothing of the machine but its network settings (proxies). */
function aptIn(directory: string): (args: readonly string[]) => Promise<string> {
  const options = {
    "Dir::Etc::sourcelist": join(directory, "debian.sources"),
    "Dir::Etc::sourceparts": join(directory, "empty"),
    "Dir::Etc::preferences": join(directory, "none"),
    "Dir::Etc::preferencesparts": join(directory, "empty"),
    "Dir::State": join(directory, "state"),
    "Dir::State::status": join(directory, "status"),
    "Dir::Cache": join(directory, "cache"),
    "APT::Architecture": "amd64",
    "APT::Architectures": "amd64",
    "APT::Install-Recommends": "false",
    "APT::Get::AllowUnauthenticated": "false",
    "Acquire::AllowInsecureRepositories": "false",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    "Debug::NoLocking": "true",
    ...(process.getuid?.() === 0 ? { "APT::Sandbox::User": "root" } : {}),
  };
  const flags = Object.entries(options).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
  return (args) => command("apt-get", [...flags, ...args], { env: { LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" } });
}

async function useSource(directory: string, source: Source): Promise<void> {
  for (const name of ["empty", "state/lists/partial", "cache/archives/partial"]) {
    await mkdir(join(directory, name), { recursive: true });
  }
  await writeFile(join(directory, "status"), "");
  const signedBy = source.signedBy ?? installedKeyring();
  const stanza = `Types: deb\nURIs: ${source.uris}\nSuites: ${source.suites.join(" ")}\nComponents: main\nSigned-By: ${signedBy}\n`;
  await writeFile(join(directory, "debian.sources"), stanza);
}

/** Debian's archive keyring as the machine's own release has it now, checked with the key the machine trusts. */
async function newerKeyring(own: Source, codename: string): Promise<string> {
  const root = await keyringDirectory();
  const directory = join(root, "apt");
  await mkdir(directory, { recursive: true });
  await useSource(directory, { ...own, suites: [codename] });
  const apt = aptIn(directory);
  await apt(["update", "-qq"]);
  await apt(["install", "--download-only", "--yes", "-qq", "debian-archive-keyring"]);
  const archives = join(directory, "cache/archives");
  const file = readdirSync(archives).find((name) => name.startsWith("debian-archive-keyring_"));
  if (file === undefined) throw new Error("apt fetched no debian-archive-keyring");
  await command("dpkg", ["-x", join(archives, file), root]);
  return keyringIn(join(root, "usr/share/keyrings"));
}

async function keyringDirectory(): Promise<string> {
  const directory = join(cacheDirectory(), "keyring");
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  return directory;
}

function installedKeyring(): string {
  return keyringIn("/usr/share/keyrings");
}

function keyringIn(directory: string): string {
  for (const name of ["debian-archive-keyring.pgp", "debian-archive-keyring.gpg"]) {
    if (existsSync(join(directory, name))) return join(directory, name);
  }
  throw new GuestUnavailable(`no debian-archive-keyring in ${directory}`);
}

/** The machine's own source of Debian's main archive, and the release it runs. */
function debianSource(): [source: Source, codename: string] {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(release)?.[1]?.replaceAll('"', "");
  const sources = aptSources("/etc/apt");
  const names = [codename, "stable", "testing", "unstable", "sid", SUITE];
  const source = sources.find(
    ({ suites, components }) => components.includes("main") && suites.some((suite) => names.includes(suite)),
  );
  if (!/^ID=debian$/m.test(release) || source === undefined) {
    throw new GuestUnavailable("the apt configuration of this machine names no Debian archive to fetch QEMU from");
  }
  return [source, codename ?? source.suites[0] ?? "stable"];
}

/** The `deb` sources of an apt configuration directory, in both formats. */
function aptSources(etc: string): Source[] {
  const parts = join(etc, "sources.list.d");
  const files = existsSync(parts) ? readdirSync(parts).map((name) => join(parts, name)) : [];
  const lists = [join(etc, "sources.list"), ...files.filter((name) => name.endsWith(".list"))].filter(existsSync);
  return [
    ...files.filter((name) => name.endsWith(".sources")).flatMap((name) => deb822(readFileSync(name, "utf8"))),
    ...lists.flatMap((name) => oneLine(readFileSync(name, "utf8"))),
  ];
}

function deb822(text: string): Source[] {
  const stanzas = text.replaceAll(/^#.*\n?/gm, "").split(/\n\s*\n/);
  return stanzas.flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const match of stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
      fields.set((match[1] ?? "").toLowerCase(), match[2] ?? "");
    }
    const words = (name: string): string[] => (fields.get(name) ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || words("enabled").includes("no")) return [];
    const source = { suites: words("suites"), components: words("components"), signedBy: fields.get("signed-by") };
    return words("uris").map((uris) => ({ ...source, uris }));
  });
}

function oneLine(text: string): Source[] {
  const entries = text.matchAll(/^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#\n]*)/gm);
  return [...entries].map(([, options = "", uris = "", suite = "", components = ""]) => ({
    uris,
    suites: [suite],
    components: components.split(/\s+/).filter(Boolean),
    signedBy: /signed-by=(\S+)/.exec(options)?.[1],
  }));
}
