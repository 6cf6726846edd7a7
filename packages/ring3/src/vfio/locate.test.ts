// seconds: 1
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { isRing3Error } from "../binary/error.ts";
import { type HostPaths, hostPaths } from "../host/paths.ts";
import { busy, chooseInterface, groupNotViable, locateFunction } from "./locate.ts";
import { descriptorsOf, listDescriptors, openVfioDescriptors, type VfioDescriptors } from "./descriptors.ts";
import { FileDescriptor } from "../linux/file-descriptor.ts";
import { openVfio } from "./open.ts";

let root = "";
let paths: HostPaths;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ring3-locate-"));
  paths = hostPaths(root);
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text = ""): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

/** A function with its driver, group and nodes, as sysfs and /dev show them. */
function plug(address: string, group: number | undefined, driver: string | undefined, cdev?: number): void {
  const device = `sys/devices/${address}`;
  mkdirSync(join(root, device), { recursive: true });
  mkdirSync(join(root, "sys/bus/pci/devices"), { recursive: true });
  symlinkSync(join(root, device), join(root, "sys/bus/pci/devices", address));
  if (driver !== undefined) {
    mkdirSync(join(root, "sys/bus/pci/drivers", driver), { recursive: true });
    symlinkSync(join(root, "sys/bus/pci/drivers", driver), join(root, device, "driver"));
  }
  if (cdev !== undefined) {
    mkdirSync(join(root, device, "vfio-dev", `vfio${cdev}`), { recursive: true });
    put(`dev/vfio/devices/vfio${cdev}`);
  }
  if (group === undefined) return;
  const folder = join(root, "sys/kernel/iommu_groups", String(group));
  mkdirSync(join(folder, "devices"), { recursive: true });
  symlinkSync(folder, join(root, device, "iommu_group"));
  symlinkSync(join(root, device), join(folder, "devices", address));
  put(`dev/vfio/${group}`);
}

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isRing3Error(error)) return error.code;
    throw error;
  }
  return "nothing";
}

test("a bound function: its group and its nodes", () => {
  plug("0000:01:00.0", 7, "vfio-pci", 3);
  put("dev/iommu");
  const location = locateFunction("0000:01:00.0", paths);
  assert.equal(location.group, 7);
  assert.equal(location.groupNode, join(root, "dev/vfio/7"));
  assert.equal(location.deviceNode, join(root, "dev/vfio/devices/vfio3"));
  assert.equal(location.iommufdNode, join(root, "dev/iommu"));
  assert.equal(location.noIommu, false);
  assert.equal(chooseInterface(location, "auto"), "iommufd");
  assert.equal(chooseInterface(location, "group"), "group");
});

test("absent, unbound and bound to another driver", () => {
  plug("0000:01:00.0", 7, undefined);
  plug("0000:02:00.0", 8, "nvme");
  plug("0000:03:00.0", 9, "mlx5_vfio_pci", 0);
  assert.equal(
    code(() => locateFunction("0000:09:00.0", paths)),
    "NOT_FOUND",
  );
  assert.equal(
    code(() => locateFunction("0000:01:00.0", paths)),
    "NOT_BOUND",
  );
  assert.throws(() => locateFunction("0000:02:00.0", paths), /bound to nvme.*sudo ring3 bind 0000:02:00\.0 --user/);
  assert.equal(locateFunction("0000:03:00.0", paths).driver, "mlx5_vfio_pci", "variant drivers count");
});

test("who keeps a group from user space, and who does not", () => {
  plug("0000:01:00.0", 7, "vfio-pci", 0);
  plug("0000:01:00.1", 7, "snd_hda_intel");
  plug("0000:01:00.2", 7, undefined);
  plug("0000:01:00.3", 7, "pci-stub");
  plug("0000:00:01.0", 7, "pcieport");
  const error = groupNotViable(locateFunction("0000:01:00.0", paths), paths);
  assert.match(error.message, /group 7 .* not viable: 0000:01:00\.1 is bound to snd_hda_intel \(.*--user .* --group/);
});

test("without IOMMU, without iommufd, without nodes", () => {
  plug("0000:01:00.0", undefined, "vfio-pci");
  const none = locateFunction("0000:01:00.0", paths);
  assert.equal(
    code(() => chooseInterface(none, "auto")),
    "NO_IOMMU",
  );
  plug("0000:02:00.0", 8, "vfio-pci");
  const group = locateFunction("0000:02:00.0", paths);
  assert.equal(chooseInterface(group, "auto"), "group");
  assert.equal(
    code(() => chooseInterface(group, "iommufd")),
    "NO_IOMMUFD",
  );
});

/** What an ordinary user would open: root, who may open everything, becomes one in a process of its own. */
function chosenByUser(address: string): string {
  const program = `
    import { chooseInterface, locateFunction } from ${JSON.stringify(import.meta.resolve("./locate.ts"))};
    import { hostPaths } from ${JSON.stringify(import.meta.resolve("../host/paths.ts"))};
    if (process.getuid() === 0) {
      process.setgroups([]);
      process.setgid(65534);
      process.setuid(65534);
    }
    try {
      console.log(chooseInterface(locateFunction(process.argv[1], hostPaths(process.argv[2])), "auto"));
    } catch (error) {
      console.log(error.code ?? error);
    }`;
  return execFileSync(process.execPath, ["--input-type=module", "-e", program, address, root], { encoding: "utf8" });
}

test("nodes that may not be opened: the one that may is taken, else the error names one", () => {
  chmodSync(root, 0o755);
  plug("0000:01:00.0", 7, "vfio-pci", 0);
  put("dev/iommu");
  for (const node of ["dev/iommu", "dev/vfio/devices/vfio0", "dev/vfio/7"]) chmodSync(join(root, node), 0o666);
  assert.equal(chosenByUser("0000:01:00.0"), "iommufd\n");
  chmodSync(join(root, "dev/iommu"), 0);
  assert.equal(chosenByUser("0000:01:00.0"), "group\n");
  chmodSync(join(root, "dev/vfio/7"), 0);
  assert.equal(chosenByUser("0000:01:00.0"), "PERMISSION_DENIED\n");
});

test("without IOMMU only a loud opt-in opens", async () => {
  plug("0000:01:00.0", 7, "vfio-pci");
  put("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
  put("dev/vfio/noiommu-7");
  assert.equal(locateFunction("0000:01:00.0", paths).noIommu, true);
  await assert.rejects(openVfio("01:00.0", {}, paths), (error: unknown) => isRing3Error(error, "NO_IOMMU"));
});

test("descriptors to be given away: refused where they would give away more than one function", () => {
  plug("0000:01:00.0", 7, "vfio-pci");
  plug("0000:01:00.1", 7, "vfio-pci");
  assert.throws(() => openVfioDescriptors("01:00.0", { backend: "group" }, paths), {
    code: "GROUP_SHARED",
    message: /0000:01:00\.1/,
  });
  plug("0000:02:00.0", undefined, "vfio-pci");
  assert.equal(
    code(() => openVfioDescriptors("02:00.0", {}, paths)),
    "NO_IOMMU",
  );
});

test("what came over a socket: as many descriptors as the interface has, in their order", () => {
  const files = Array.from({ length: 4 }, () => FileDescriptor.open("/dev/null"));
  const [first, second, third] = files;
  assert.deepEqual(descriptorsOf("group", files.slice(0, 3)), {
    backend: "group",
    container: first,
    group: second,
    device: third,
  });
  assert.deepEqual(descriptorsOf("iommufd", files.slice(0, 2)), { backend: "iommufd", iommufd: first, device: second });
  for (const count of [0, 1, 2, 4]) {
    assert.equal(
      code(() => descriptorsOf("group", files.slice(0, count))),
      "DESCRIPTORS_INVALID",
    );
  }
  for (const count of [1, 3]) {
    assert.equal(
      code(() => descriptorsOf("iommufd", files.slice(0, count))),
      "DESCRIPTORS_INVALID",
    );
  }
  for (const file of files) file.close();
});

test("descriptors are closed where no function can be made of them", async () => {
  plug("0000:01:00.0", 7, "vfio-pci");
  const given = (): VfioDescriptors => {
    const [container, group, device] = Array.from({ length: 3 }, () => FileDescriptor.open("/dev/null"));
    return descriptorsOf("group", [container, group, device] as FileDescriptor[]);
  };
  for (const address of ["0000:01:00.0", "0000:09:00.0"]) {
    const descriptors = given();
    await assert.rejects(openVfio(address, { descriptors }, paths));
    assert.ok(listDescriptors(descriptors).every(({ closed }) => closed));
  }
});

test("whoever finds a function busy is not named for its own attempt", () => {
  put("dev/vfio/devices/vfio3");
  const node = join(root, "dev/vfio/devices/vfio3");
  const here: HostPaths = { ...paths, procRoot: "/proc" };
  using own = FileDescriptor.open(node);
  assert.doesNotMatch(busy("0000:01:00.0", node, "bind", here, own).message, /held by process \d/);
  using _other = FileDescriptor.open(node);
  assert.match(busy("0000:01:00.0", node, "bind", here, own).message, new RegExp(`held by process ${process.pid} `));
});
