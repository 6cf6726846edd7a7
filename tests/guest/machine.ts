// The guest's machine as one table: what sits behind each root port, at which address the guest sees it, and which
// driver it gets. Every entry of SLOTS has its own root port and so its own IOMMU group (but `shared`, on purpose).
// A port's secondary bus number is its place in the table, because SeaBIOS numbers buses in slot order.

/** A PCI function as the guest sees it. */
export interface GuestFunction {
  readonly address: string;
  /** `vfio-pci`: given to uid 1000. Otherwise the kernel driver that is bound. */
  readonly driver: "vfio-pci" | "nvme" | "igb" | "none";
}

/** The functions present after boot, and the IDs of their QEMU devices. */
export const FUNCTIONS = {
  /** Two namespaces: 1 of 512-byte blocks, 2 of 4096-byte blocks, 64 MiB each, with the counting contents. */
  nvme: { id: "nvme0", address: "0000:01:00.0", driver: "vfio-pci" },
  edu: { id: "edu0", address: "0000:02:00.0", driver: "vfio-pci" },
  /** The physical function with SR-IOV, wired to `e1000e`. */
  igb: { id: "igb0", address: "0000:03:00.0", driver: "igb" },
  igbVf0: { id: "igb0", address: "0000:03:10.0", driver: "vfio-pci" },
  igbVf1: { id: "igb0", address: "0000:03:10.2", driver: "vfio-pci" },
  /** BAR 0 is memory, BAR 1 is I/O, BAR 2 is 64-bit prefetchable memory backed by RAM. */
  testdev: { id: "testdev0", address: "0000:04:00.0", driver: "vfio-pci" },
  /** The only one that takes injected AER errors. */
  virtioBlk: { id: "vblk0", address: "0000:05:00.0", driver: "vfio-pci" },
  e1000e: { id: "e1000e0", address: "0000:06:00.0", driver: "vfio-pci" },
  /** Stays with the kernel's driver, as a peer. */
  peerNvme: { id: "nvme1", address: "0000:07:00.0", driver: "nvme" },
  /** Two functions on one conventional bus: one IOMMU group. */
  sharedA: { id: "edu1", address: "0000:09:01.0", driver: "vfio-pci" },
  sharedB: { id: "edu2", address: "0000:09:02.0", driver: "vfio-pci" },
  xhci: { id: "xhci0", address: "0000:0c:00.0", driver: "vfio-pci" },
} as const;

/** Empty root ports: `device_add` with `bus` set to `port` makes a function appear at `address`. */
export const HOTPLUG = [
  { port: "rp9", address: "0000:0a:00.0" },
  { port: "rp10", address: "0000:0b:00.0" },
] as const;

/** Virtual functions that are made at boot. */
export const VIRTUAL_FUNCTIONS = { parent: "0000:03:00.0", count: 2 } as const;

/** What the disks hold at first, from the byte `first` on: 32-bit little-endian words, each a quarter of where it lies. */
export function counting(first: number, bytes: number): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: bytes / 4 }, (_, i) => first / 4 + i).buffer);
}

const DISKS = ["nvme0n1", "nvme0n2", "vblk0", "nvme1n1"];

/**
 * Ports without hotplug. On resume from a suspend pciehp reads the device's serial number again, but QEMU's firmware has
 * not brought extended config space back by then: it takes e1000e, the only one that has a number, for another card.
 */
const FIXED_PORTS: readonly number[] = [6];

/** Devices by root port, in bus order; `BUS` stands for the port. */
const SLOTS: readonly (readonly string[])[] = [
  [
    "nvme,id=nvme0,serial=ring3-nvme0,bus=BUS",
    "nvme-ns,bus=nvme0,nsid=1,drive=nvme0n1,logical_block_size=512,physical_block_size=512",
    "nvme-ns,bus=nvme0,nsid=2,drive=nvme0n2,logical_block_size=4096,physical_block_size=4096",
  ],
  ["edu,id=edu0,bus=BUS"],
  ["igb,id=igb0,netdev=wire-a,mac=52:54:00:00:03:00,bus=BUS"],
  ["pci-testdev,id=testdev0,membar=1M,membar-backed=on,bus=BUS"],
  ["virtio-blk-pci-non-transitional,id=vblk0,drive=vblk0,serial=ring3-vblk0,iommu_platform=on,aer=on,bus=BUS"],
  ["e1000e,id=e1000e0,netdev=wire-b,mac=52:54:00:00:06:00,bus=BUS"],
  ["nvme,id=nvme1,serial=ring3-nvme1,bus=BUS", "nvme-ns,bus=nvme1,nsid=1,drive=nvme1n1,logical_block_size=512"],
  ["pcie-pci-bridge,id=bridge,bus=BUS", "edu,id=edu1,bus=bridge,addr=1", "edu,id=edu2,bus=bridge,addr=2"],
  [],
  [],
  ["qemu-xhci,id=xhci0,bus=BUS"],
];

/** The hub that wires igb and e1000e together. */
const NETWORK = ["hubport,id=wire-a,hubid=1", "hubport,id=wire-b,hubid=1"];

/** Named machines that differ from the standard one; a suite asks for one with `// machine: <name>`. */
export const VARIATIONS = {
  /** Root may map what drivers use (config space as memory), which Debian's kernel else refuses. */
  standard: { append: "iomem=relaxed" },
  /** No interrupt remapping, so VFIO refuses the IOMMU with EPERM. */
  "no-intremap": { intremap: false },
  /** No IOMMU at all: functions have no group, but with the kernel's unsafe no-IOMMU mode. */
  "no-iommu": { iommu: false },
} as const;

export type VariationName = keyof typeof VARIATIONS;

/** How a machine differs from the standard one. */
export interface MachineOptions {
  readonly intremap?: boolean;
  readonly iommu?: boolean;
  readonly memoryMegabytes?: number;
  /** Lets processes on the host that serve devices map the guest's memory. */
  readonly sharedMemory?: boolean;
  /** No functions behind the ports: quicker to boot, for functions that come by `args` or hotplug. */
  readonly empty?: boolean;
  /** More words for the kernel's command line. */
  readonly append?: string;
  /** More arguments for QEMU, after all others. */
  readonly args?: readonly string[];
}

/** The files and sockets that one boot uses. */
export interface MachineFiles {
  readonly kernel: string;
  readonly initramfs: string;
  readonly share: string;
  /** 64 MiB that every disk starts with; it is not written to. */
  readonly disk: string;
  readonly control: string;
  readonly qmp: string;
  readonly console: string;
  readonly log: string;
}

/** What the standard functions stand on. */
function backends(files: MachineFiles): string[][] {
  return [
    ...DISKS.map((id) => ["-drive", `if=none,id=${id},file=${files.disk},format=raw,snapshot=on`]),
    ...NETWORK.map((netdev) => ["-netdev", netdev]),
  ];
}

/** All that TCG has, without what costs a tenth of the time and changes nothing here: page tables of five levels, and AVX. */
const PROCESSOR = "max,la57=off,avx=off,avx2=off";

/** QEMU's arguments; `interactive` wires the console to the terminal. */
export function machineArguments(files: MachineFiles, options: MachineOptions, interactive: boolean): string[] {
  const { iommu = true, intremap = true, memoryMegabytes = 1024 } = options;
  // On a busy machine the kernel takes late ticks for a broken timer, and an emulated clock for an unstable one.
  const clocks = "no_timer_check tsc=reliable";
  // An emulated processor speculates nothing, and return trampolines are slow on it.
  const append = `console=ttyS0 panic=-1 quiet ${clocks} mitigations=off no_console_suspend intel_iommu=${iommu ? "on" : "off"} ${options.append ?? ""}`;
  const words: string[][] = [
    ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", PROCESSOR, "-smp", "2", "-m", String(memoryMegabytes)],
    ["-kernel", files.kernel, "-initrd", files.initramfs, "-append", append],
    ["-chardev", `${interactive ? "stdio,mux=on,signal=off,logfile" : "file,path"}=${files.console},id=console`],
    ["-serial", "chardev:console", ...(interactive ? ["-monitor", "chardev:console"] : [])],
    ["-chardev", `socket,id=control,path=${files.control}`, "-serial", "chardev:control"],
    ["-chardev", `socket,id=qmp,path=${files.qmp}`, "-mon", "chardev=qmp,mode=control"],
    ["-D", files.log, "-rtc", "base=utc"],
    options.sharedMemory === true
      ? [
          ...["-object", `memory-backend-memfd,id=ram,size=${memoryMegabytes}M,share=on`],
          ...["-machine", "memory-backend=ram"],
        ]
      : [],
    iommu ? ["-device", `intel-iommu,intremap=${intremap ? "on" : "off"},caching-mode=on`] : [],
    // Native PCIe hotplug, as real machines have it.
    ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"],
    ["-fsdev", `local,id=share,path=${files.share},security_model=none,readonly=on`],
    ["-device", "virtio-9p-pci-non-transitional,fsdev=share,mount_tag=host,bus=pcie.0,addr=0x2"],
    ...(options.empty === true ? [] : backends(files)),
    ...SLOTS.map((devices, index) => slot(options.empty === true ? [] : devices, index + 1)),
    [...(options.args ?? [])],
  ];
  return words.flat();
}

function slot(devices: readonly string[], number: number): string[] {
  const port = `rp${number}`;
  const address = `0x${(number + 2).toString(16)}`;
  const fixed = FIXED_PORTS.includes(number) ? ",hotplug=off" : "";
  const root = `pcie-root-port,id=${port},bus=pcie.0,addr=${address},chassis=${number},slot=${number}${fixed}`;
  return [root, ...devices.map((device) => device.replace("bus=BUS", `bus=${port}`))].flatMap((device) => {
    return ["-device", device];
  });
}
