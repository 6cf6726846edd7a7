// A machine in a temporary directory, for tests: a tree of sysfs, /dev, /proc and /run, and behind its attributes the part
// of the kernel that binding meets (overrides, probing, groups, VFIO nodes, SR-IOV). Any single call can be made to fail.
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { Ring3Error } from "../binary/error.ts";
import type { Host } from "./binding-steps.ts";
import type { HostOperations } from "./operations.ts";
import { type HostPaths, hostPaths } from "./paths.ts";
import { listNames, present, readLinkName, readText } from "./sysfs.ts";

export interface FakeFunction {
  readonly address: string;
  readonly group?: number;
  /** The kernel driver that has it, and that would take it at a probe. */
  readonly driver?: string;
  readonly classCode?: number;
  /** Address of the bridge above. */
  readonly parent?: string;
  readonly totalVfs?: number;
  /** Further attributes, by file name. */
  readonly attributes?: Readonly<Record<string, string>>;
}

/** Which character devices the machine's kernel offers for VFIO. */
export type FakeInterfaces = "group" | "iommufd" | "both";

export class FakeMachine implements Disposable {
  readonly root: string;
  readonly paths: HostPaths;
  /** Calls that the operations have seen, in order: `write .../driver_override`. */
  readonly calls: string[] = [];
  /** Which call fails (from 0), before or after taking effect; further ones work. */
  failAt: { readonly call: number; readonly when: "before" | "after" } | undefined = undefined;
  /** At which call the process is killed, before or after it takes effect: it never goes on. See {@link killed}. */
  killAt: { readonly call: number; readonly when: "before" | "after" } | undefined = undefined;
  /** Called before each call, with its number. */
  onCall: ((call: number) => void) | undefined = undefined;
  /** Drivers whose probe fails. */
  readonly refusing: Set<string> = new Set();
  readonly claimedDevices: Set<string> = new Set();
  /** Nodes of groups that a process has open which cannot be seen. */
  readonly openedGroups: Set<string> = new Set();
  privileged = true;
  readonly #interfaces: FakeInterfaces;
  #tellKilled: () => void = () => undefined;
  readonly #natural = new Map<string, string>();
  #nextVfio = 0;

  constructor(functions: readonly FakeFunction[], options: { interfaces?: FakeInterfaces; vfio?: boolean } = {}) {
    // Hundreds of small files: in memory where there is a place for that.
    const place = statSync("/dev/shm", { throwIfNoEntry: false })?.isDirectory() === true ? "/dev/shm" : tmpdir();
    this.root = mkdtempSync(join(place, "ring3-machine-"));
    this.paths = hostPaths(this.root);
    this.#interfaces = options.interfaces ?? "both";
    for (const directory of ["bus/pci/devices", "kernel/iommu_groups", "class/vfio", "class/block", "class/net"]) {
      mkdirSync(join(this.paths.sysfsRoot, directory), { recursive: true });
    }
    for (const directory of ["dev/vfio/devices", "proc/self/fd", "run", "etc", "bus/pci/drivers"]) {
      mkdirSync(join(this.root, directory), { recursive: true });
    }
    writeFileSync(join(this.root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n");
    writeFileSync(join(this.root, "etc/group"), "root:x:0:\nalice:x:1000:\nvfio:x:36:alice\n");
    mkdirSync(join(this.paths.procRoot, String(process.pid), "fd"), { recursive: true });
    const stat = `${process.pid} (node (x)) S ${"0 ".repeat(18)}4711 0`;
    writeFileSync(join(this.paths.procRoot, String(process.pid), "stat"), stat);
    this.node("vfio/vfio", 0o666);
    if (this.#interfaces !== "group") this.node("iommu", 0o660);
    if (options.vfio !== false) this.driver("vfio-pci");
    for (const fn of functions) this.add(fn);
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }

  host(options: Pick<Host, "signal" | "progress"> = {}): Host {
    return { paths: this.paths, operations: this.operations(), ...options };
  }

  /** Makes a file of the tree, with its directories. */
  file(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  /** Fills a file of the tree with bytes. */
  bytes(path: string, content: Uint8Array): void {
    writeFileSync(join(this.root, path), content);
  }

  /** Makes a symbolic link of the tree: both names are below its root. */
  link(path: string, target: string): void {
    const place = join(this.root, path);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(relative(dirname(place), join(this.root, target)), place);
  }

  driver(name: string): void {
    mkdirSync(join(this.paths.sysfsRoot, "bus/pci/drivers", name), { recursive: true });
  }

  add(fn: FakeFunction): void {
    const above = fn.parent === undefined ? "pci0000:00" : `pci0000:00/${fn.parent}`;
    const directory = `sys/devices/${above}/${fn.address}`;
    const attributes: Record<string, string> = {
      vendor: "0x1b36",
      device: "0x0010",
      subsystem_vendor: "0x1af4",
      subsystem_device: "0x1100",
      revision: "0x02",
      class: `0x${(fn.classCode ?? 0x010802).toString(16).padStart(6, "0")}`,
      driver_override: "(null)",
      enable: "0",
      numa_node: "-1",
      power_state: "D0",
      reset_method: "flr bus",
      resource: "0x00000000fe800000 0x00000000fe803fff 0x0000000000140204",
      ...(fn.totalVfs === undefined
        ? {}
        : {
            sriov_totalvfs: String(fn.totalVfs),
            sriov_numvfs: "0",
            sriov_drivers_autoprobe: "1",
            sriov_vf_device: "10ca",
          }),
      ...fn.attributes,
    };
    for (const [name, text] of Object.entries(attributes)) this.file(`${directory}/${name}`, `${text}\n`);
    this.file(`${directory}/config`, "");
    truncateSync(join(this.root, directory, "config"), 4096);
    this.link(`sys/bus/pci/devices/${fn.address}`, directory);
    if (fn.group !== undefined) {
      this.file(`sys/kernel/iommu_groups/${fn.group}/type`, "DMA-FQ\n");
      this.link(`sys/kernel/iommu_groups/${fn.group}/devices/${fn.address}`, directory);
      this.link(`${directory}/iommu_group`, `sys/kernel/iommu_groups/${fn.group}`);
    }
    if (fn.driver !== undefined) {
      this.driver(fn.driver);
      this.#natural.set(fn.address, fn.driver);
      this.#bind(fn.address, fn.driver);
    }
  }

  /** Unplugs a function. */
  remove(address: string): void {
    const group = this.#group(address);
    if (readLinkName(this.#at(address, "driver")) !== undefined) this.#unbind(address);
    if (group !== undefined) rmSync(join(this.paths.sysfsRoot, "kernel/iommu_groups", group, "devices", address));
    rmSync(this.#real(address), { recursive: true });
    rmSync(join(this.paths.sysfsRoot, "bus/pci/devices", address));
  }

  /**
   * Runs `change`, which `killAt` may kill; resolves with whether it did. The lock is then that of a dead process, and the
   * machine as the killed one left it.
   */
  async killed(change: () => Promise<unknown>): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#tellKilled = () => resolve(true);
    const dead = await Promise.race([promise, change().then(() => false)]);
    this.killAt = undefined;
    if (dead) this.file("run/ring3/lock", "999999 1");
    return dead;
  }

  /** What a binding that was killed between taking a function from VFIO and giving it back leaves. */
  interruptBinding(address: string): void {
    this.#unbind(address);
  }

  /** Everything that binding may change, in a form to compare. */
  state(): Readonly<Record<string, string>> {
    const state: Record<string, string> = {};
    for (const address of listNames(join(this.paths.sysfsRoot, "bus/pci/devices"))) {
      const driver = readLinkName(this.#at(address, "driver")) ?? "-";
      const extra = ["driver_override", "sriov_numvfs", "sriov_drivers_autoprobe"].map((name) =>
        readText(this.#at(address, name)),
      );
      state[address] = [driver, ...extra].join(" ");
    }
    for (const name of ["bindings", "sriov", "."].flatMap((folder) => this.#files(`run/ring3/${folder}`))) {
      if (name.endsWith(".json")) state[name] = readFileSync(join(this.root, name), "utf8").replaceAll(this.root, "");
    }
    for (const name of ["vfio/devices", "vfio", "."].flatMap((folder) => this.#files(`dev/${folder}`))) {
      // A device that is bound anew gets another number.
      const shown = name.replace(/devices\/vfio\d+/, `devices/${this.#deviceOwner(basename(name))}`);
      state[shown] = readFileSync(join(this.root, name), "utf8");
    }
    return state;
  }

  operations(): HostOperations {
    const call = async (name: string, action: () => void): Promise<void> => {
      const number = this.calls.push(name) - 1;
      this.onCall?.(number);
      const killed = this.killAt?.call === number ? this.killAt.when : undefined;
      if (killed === "after") action();
      if (killed !== undefined) return await this.#die();
      const fails = this.failAt?.call === number ? this.failAt.when : undefined;
      if (fails !== "before") action();
      if (fails !== undefined) throw new Ring3Error("HOST_CALL_FAILED", `${name} failed with EIO`, { errno: "EIO" });
      await Promise.resolve();
    };
    return {
      privileged: this.privileged,
      write: async (path, text) => await call(`write ${path}`, () => this.#write(path, text)),
      loadModule: async (name) =>
        await call(`modprobe ${name}`, () => {
          if (name === "absent") throw new Ring3Error("MODULE_MISSING", "no such module");
          this.driver(name);
        }),
      setOwner: async (path, { uid, gid, mode, accessList }) =>
        await call(`chown ${path}`, () => {
          const former = (readText(path) ?? "").split(" ")[3];
          const list = accessList === undefined ? former : (accessList ?? undefined);
          writeFileSync(path, [uid, gid, mode.toString(8), list].filter((word) => word !== undefined).join(" "));
          chmodSync(path, mode);
          if (process.geteuid?.() === 0) chownSync(path, uid, gid);
        }),
      accessList: async (path) => (readText(path) ?? "").split(" ")[3],
      save: async (path, text) =>
        await call(`save ${path}`, () => {
          mkdirSync(dirname(path), { recursive: true });
          writeFileSync(path, text);
        }),
      remove: async (path) => await call(`remove ${path}`, () => rmSync(path, { force: true })),
      waitUntil: async (directory, ready) => {
        await call(`wait ${directory}`, () => undefined);
        return ready();
      },
      settle: async () => await call("settle", () => undefined),
      claimed: (path) => this.claimedDevices.has(path),
      opened: (path) => this.openedGroups.has(path),
    };
  }

  #die(): Promise<never> {
    this.#tellKilled();
    return new Promise(() => undefined);
  }

  node(name: string, mode: number): void {
    const path = join(this.paths.devRoot, name);
    writeFileSync(path, `0 0 ${mode.toString(8)}`);
    chmodSync(path, mode);
  }

  #files(folder: string): string[] {
    const names = listNames(join(this.root, folder)).map((name) => join(folder, name));
    return names.filter((name) => statSync(join(this.root, name)).isFile());
  }

  #at(address: string, name: string): string {
    return join(this.paths.sysfsRoot, "bus/pci/devices", address, name);
  }

  #group(address: string): string | undefined {
    return readLinkName(this.#at(address, "iommu_group"));
  }

  #deviceOwner(device: string): string {
    const addresses = listNames(join(this.paths.sysfsRoot, "bus/pci/devices"));
    return addresses.find((address) => present(this.#at(address, `vfio-dev/${device}`))) ?? device;
  }

  #write(path: string, text: string): void {
    const name = basename(path);
    const value = text.trim();
    const fail = (errno: string): never => {
      throw new Ring3Error("HOST_CALL_FAILED", `write ${path} failed with ${errno}`, { errno, call: `write ${path}` });
    };
    if (!text.endsWith("\n") && text === "") fail("EINVAL");
    if (name === "driver_override") {
      writeFileSync(path, `${value === "" ? "(null)" : value}\n`);
    } else if (name === "sriov_numvfs") {
      this.#setVfs(basename(dirname(path)), Number(value));
    } else if (name === "reset") {
      if ((readText(join(dirname(path), "reset_method")) ?? "") === "") fail("ENOTTY");
    } else if (name === "sriov_drivers_autoprobe" || name === "reset_method") {
      writeFileSync(path, `${value}\n`);
    } else {
      if (!present(this.#at(value, "vendor"))) fail("ENODEV");
      const override = readText(this.#at(value, "driver_override"));
      const only = override === "(null)" ? undefined : override;
      const driver = readLinkName(this.#at(value, "driver"));
      const directory = basename(dirname(path));
      if (name === "unbind") {
        if (driver !== directory) fail("ENODEV");
        this.#unbind(value);
      } else if (name === "bind") {
        if (driver !== undefined || (only !== undefined && only !== directory) || this.refusing.has(directory))
          fail("ENODEV");
        if (only === undefined && this.#natural.get(value) !== directory) fail("ENODEV");
        this.#bind(value, directory);
      } else if (name === "drivers_probe") {
        const found = only ?? this.#natural.get(value);
        const registered = found !== undefined && present(join(this.paths.sysfsRoot, "bus/pci/drivers", found));
        if (driver === undefined && registered && !this.refusing.has(found)) this.#bind(value, found);
      } else {
        fail("ENOENT");
      }
    }
  }

  #bind(address: string, driver: string): void {
    const device = join("sys/devices", relative(join(this.paths.sysfsRoot, "devices"), this.#real(address)));
    this.link(`${device}/driver`, `sys/bus/pci/drivers/${driver}`);
    if (driver !== "vfio-pci") return;
    const name = `vfio${this.#nextVfio++}`;
    const group = this.#group(address);
    mkdirSync(this.#at(address, `vfio-dev/${name}`), { recursive: true });
    mkdirSync(join(this.paths.sysfsRoot, "class/vfio-dev", name), { recursive: true });
    if (this.#interfaces !== "group") {
      writeFileSync(this.#at(address, `vfio-dev/${name}/dev`), "240:0\n");
      this.node(`vfio/devices/${name}`, 0o600);
    }
    if (this.#interfaces !== "iommufd" && group !== undefined) {
      mkdirSync(join(this.paths.sysfsRoot, "class/vfio", group), { recursive: true });
      if (!present(join(this.paths.devRoot, "vfio", group))) this.node(`vfio/${group}`, 0o600);
    }
  }

  #unbind(address: string): void {
    rmSync(this.#at(address, "driver"));
    for (const name of listNames(this.#at(address, "vfio-dev"))) {
      rmSync(join(this.paths.devRoot, "vfio/devices", name), { force: true });
      rmSync(join(this.paths.sysfsRoot, "class/vfio-dev", name), { recursive: true });
    }
    rmSync(this.#at(address, "vfio-dev"), { recursive: true, force: true });
    const group = this.#group(address);
    if (group === undefined) return;
    const members = listNames(join(this.paths.sysfsRoot, "kernel/iommu_groups", group, "devices"));
    if (members.some((member) => readLinkName(this.#at(member, "driver")) === "vfio-pci")) return;
    rmSync(join(this.paths.sysfsRoot, "class/vfio", group), { recursive: true, force: true });
    rmSync(join(this.paths.devRoot, "vfio", group), { force: true });
  }

  #real(address: string): string {
    const path = join(this.paths.sysfsRoot, "bus/pci/devices", address);
    return join(dirname(path), readlinkSync(path));
  }

  #setVfs(address: string, count: number): void {
    const existing = listNames(this.#at(address, ".")).filter((name) => name.startsWith("virtfn"));
    for (const name of existing) {
      const vf = readLinkName(this.#at(address, name)) ?? "";
      if (readLinkName(this.#at(vf, "driver")) !== undefined) this.#unbind(vf);
      const group = this.#group(vf);
      if (group !== undefined) rmSync(join(this.paths.sysfsRoot, "kernel/iommu_groups", group), { recursive: true });
      rmSync(this.#real(vf), { recursive: true });
      rmSync(join(this.paths.sysfsRoot, "bus/pci/devices", vf));
      rmSync(this.#at(address, name));
    }
    for (let index = 0; index < count; index++) {
      const vf = `${address.slice(0, 8)}10.${index}`;
      this.add({ address: vf, group: 900 + index, classCode: 0x020000 });
      const pf = relative(this.root, this.#real(address));
      this.link(`${pf}/virtfn${index}`, relative(this.root, this.#real(vf)));
      this.link(`${relative(this.root, this.#real(vf))}/physfn`, pf);
    }
    writeFileSync(this.#at(address, "sriov_numvfs"), `${count}\n`);
  }
}
