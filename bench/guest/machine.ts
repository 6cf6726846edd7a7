// The guest of the benchmark: the rig's standard machine, the peers' programs on a second share, and one NVMe function
// that changes hands between the kernel's driver and user space.

import { GuestUnavailable } from "../../tests/guest/cache.ts";
import { bootGuest, type Guest, type GuestOptions } from "../../tests/guest/guest.ts";
import { FUNCTIONS } from "../../tests/guest/machine.ts";
import { GROUPS, packageRoot } from "../../tests/guest/packages.ts";
import { BenchmarkUnavailable } from "../benchmark.ts";

/** The function that everything is measured on, and the driver-neutral name of its first namespace. */
export const ADDRESS: string = FUNCTIONS.nvme.address;
export const NAMESPACE_ID = 1;

const DEVICE = `/sys/bus/pci/devices/${ADDRESS}`;
const PEERS = "/mnt";
const LIBRARIES = `${PEERS}/usr/lib/x86_64-linux-gnu`;

/** Which mappings the kernel's own driver uses: strict ones of the IOMMU, or none (as with `iommu=pt`). */
export type KernelDomain = "DMA" | "identity";

/** Boots a guest. Throws {@link BenchmarkUnavailable} where this machine cannot. */
export async function bootForBenchmark(options: GuestOptions & { readonly peers?: boolean }): Promise<Guest> {
  try {
    if (options.peers !== true) return await bootGuest(options);
    const root = await packageRoot(GROUPS.peers, options.progress ?? (() => undefined));
    const share = `local,id=peers,path=${root},security_model=none,readonly=on`;
    const device = "virtio-9p-pci-non-transitional,fsdev=peers,mount_tag=peers,bus=pcie.0,addr=0x10";
    const guest = await bootGuest({ ...options, machine: { args: ["-fsdev", share, "-device", device] } });
    await asRoot(guest, `mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose peers ${PEERS}`);
    return guest;
  } catch (error) {
    if (error instanceof GuestUnavailable) throw new BenchmarkUnavailable(error.message);
    throw error;
  }
}

/** The shell words that run one of the peers' programs with its own libraries. */
export function peerProgram(name: string): string {
  const libraries = [LIBRARIES, `${LIBRARIES}/ceph`].join(":");
  return `${LIBRARIES}/ld-linux-x86-64.so.2 --library-path ${libraries} ${PEERS}/usr/bin/${name}`;
}

/** Runs a shell script as root and returns its output; it must succeed. */
export async function asRoot(guest: Guest, script: string, timeoutMs = 60_000): Promise<string> {
  const { code, signal, stdout, stderr } = await guest.run(["sh", "-ec", script], { uid: 0, timeoutMs });
  if (code === 0) return stdout;
  throw new Error(`in the guest: ${script}: ended with ${signal ?? code}\n${stdout}${stderr}`);
}

/** Gives the function to the kernel's driver, with a polled queue beside the others; returns the block device. */
export async function bindKernelDriver(guest: Guest, domain: KernelDomain): Promise<string> {
  const found = `${DEVICE}/nvme/nvme*/nvme*n${NAMESPACE_ID}`;
  const script = `
    ${unbind()}
    echo ${domain} > ${DEVICE}/iommu_group/type
    echo 1 > /sys/module/nvme/parameters/poll_queues
    ${probe("nvme")}
    tries=0
    until [ -e ${found} ] && [ -b /dev/$(basename ${found}) ]; do
      [ $tries -lt 100 ]; tries=$((tries + 1)); sleep 0.1
    done
    grep -q ${domain} ${DEVICE}/iommu_group/type
    basename ${found}`;
  return `/dev/${(await asRoot(guest, script)).trim()}`;
}

/** Gives the function to user space: uid 1000 may open it. */
export async function bindVfio(guest: Guest): Promise<void> {
  const group = `/dev/vfio/$(basename $(readlink ${DEVICE}/iommu_group))`;
  await asRoot(
    guest,
    `${unbind()}\necho DMA > ${DEVICE}/iommu_group/type\n${probe("vfio-pci")}\nchown 1000:1000 ${group}`,
  );
}

function unbind(): string {
  return `if [ -e ${DEVICE}/driver ]; then echo ${ADDRESS} > ${DEVICE}/driver/unbind; fi`;
}

function probe(driver: string): string {
  const bound = `[ $(basename $(readlink ${DEVICE}/driver)) = ${driver} ]`;
  return `echo ${driver} > ${DEVICE}/driver_override; echo ${ADDRESS} > /sys/bus/pci/drivers_probe; ${bound}`;
}
