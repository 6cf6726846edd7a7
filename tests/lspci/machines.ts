// Machines of QEMU whose functions lspci is compared on, as a table: chipsets, bridges, switches and every kind of card.
// Functions of virtio stand for themselves three times: modern, transitional and under an IOMMU.

export interface Machine {
  readonly name: string;
  /** `pc` has 256 bytes of config space and no other way to it than two ports; `q35` maps 4096. */
  readonly chipset: "pc" | "q35";
  /** Properties of the machine. */
  readonly properties?: string;
  /** Words of `-device`. */
  readonly devices: readonly string[];
  /** Further arguments. */
  readonly args?: readonly string[];
  /** Buses without a bridge, besides bus 0. */
  readonly rootBuses?: readonly number[];
  /** Turns on as many virtual functions of each function that has SR-IOV. */
  readonly virtualFunctions?: number;
}

const DRIVE = ["-blockdev", "null-co,node-name=null,size=1048576,read-zeroes=on"];
const MEMORY = (id: string, size: string): string[] => ["-object", `memory-backend-ram,id=${id},size=${size},share=on`];

const port = (index: number, properties = ""): string =>
  `pcie-root-port,id=port${index},bus=pcie.0,chassis=${index},slot=${index}${properties}`;
/** Each card behind a root port of its own. */
const behindPorts = (...cards: readonly string[]): string[] => {
  return cards.flatMap((card, index) => [port(index + 1), `${card},bus=port${index + 1}`]);
};
const VIRTIO = ["blk", "net", "scsi", "serial", "rng", "balloon"] as const;
const virtio = (suffix: string, more = ""): string[] =>
  VIRTIO.map((kind) => `virtio-${kind}-pci${suffix}${kind === "blk" ? ",drive=null,share-rw=on" : ""}${more}`);

export const MACHINES: readonly Machine[] = [
  { name: "pc as it comes", chipset: "pc", devices: ["VGA", "e1000", "virtio-net-pci"] },
  {
    name: "pc full of old cards",
    chipset: "pc",
    devices: [
      ...[
        "cirrus-vga",
        "ES1370,audiodev=none",
        "AC97,audiodev=none",
        "piix3-usb-uhci",
        "pci-ohci",
        "am53c974",
        "dc390",
        "lsi53c810",
      ],
      ...["pci-bridge,id=below,chassis_nr=1", "pci-bridge,id=deeper,chassis_nr=2,bus=below"],
      ...["rtl8139", "ne2k_pci", "pcnet", "tulip", "i82550", "i82559er"].map((card) => `${card},bus=below`),
      ...["lsi53c895a", "i6300esb", "pci-serial", "pci-serial-2x", "pci-serial-4x"].map((card) => `${card},bus=deeper`),
    ],
  },
  {
    name: "pc with expander buses",
    chipset: "pc",
    devices: [
      ...["pxb,id=other,bus_nr=128,bus=pci.0", "pxb,id=third,bus_nr=200,bus=pci.0"],
      ...["edu,bus=other", "pci-testdev,bus=other", "megasas,bus=third", "intel-hda,bus=third"],
    ],
    rootBuses: [128, 200],
  },
  { name: "q35 as it comes", chipset: "q35", devices: ["VGA", "e1000e", "ich9-intel-hda"] },
  {
    name: "q35 with a card in each root port",
    chipset: "q35",
    devices: behindPorts(
      ...[
        "nvme,serial=a",
        "edu",
        "igb",
        "e1000e",
        "pci-testdev",
        "qemu-xhci",
        "nec-usb-xhci",
        "vmxnet3",
        "megasas-gen2",
      ],
      ...[
        "virtio-blk-pci-non-transitional,drive=null,iommu_platform=on,aer=on",
        "virtio-net-pci,ats=on,iommu_platform=on",
      ],
    ),
    args: DRIVE,
  },
  {
    name: "q35 with switches",
    chipset: "q35",
    devices: [
      port(1, ",io-reserve=4096,pref64-reserve=64M"),
      "x3130-upstream,id=up,bus=port1",
      ...[1, 2, 3].map((at) => `xio3130-downstream,id=down${at},bus=up,chassis=${10 + at},slot=${10 + at}`),
      ...["nvme,serial=b,bus=down1", "x3130-upstream,id=up2,bus=down2", "pcie-pci-bridge,id=old,bus=down3"],
      ...[4, 5].map((at) => `xio3130-downstream,id=down${at},bus=up2,chassis=${10 + at},slot=${10 + at}`),
      ...["nec-usb-xhci,bus=down4", "virtio-net-pci,bus=down5"],
      ...["rtl8139,bus=old,addr=1", "edu,bus=old,addr=2", "pci-bridge,id=older,bus=old,addr=3,chassis_nr=30"],
      "virtio-rng-pci,bus=older,addr=4",
      ...["ioh3420,id=ioh,bus=pcie.0,chassis=40,slot=40", "igb,bus=ioh"],
    ],
  },
  {
    name: "q35 with CXL",
    chipset: "q35",
    properties: ",cxl=on,cxl-fmw.0.targets.0=cxl,cxl-fmw.0.size=4G",
    devices: [
      "pxb-cxl,id=cxl,bus_nr=12,bus=pcie.0",
      ...[0, 1].map((at) => `cxl-rp,port=${at},bus=cxl,id=root${at},chassis=0,slot=${at + 1}`),
      "cxl-type3,bus=root0,volatile-memdev=m0,id=memory0,sn=1",
      "cxl-upstream,bus=root1,id=switch,addr=0.0,multifunction=on",
      "cxl-switch-mailbox-cci,bus=root1,addr=0.1,target=switch",
      ...[0, 1].map((at) => `cxl-downstream,port=${at},bus=switch,id=leg${at},chassis=0,slot=${at + 4}`),
      ...[1, 2].map(
        (at) => `cxl-type3,bus=leg${at - 1},persistent-memdev=m${at},lsa=l${at},id=memory${at},sn=${at + 1}`,
      ),
    ],
    args: [...[0, 1, 2].flatMap((at) => MEMORY(`m${at}`, "256M")), ...[1, 2].flatMap((at) => MEMORY(`l${at}`, "256K"))],
    rootBuses: [12],
  },
  {
    name: "q35 with virtual functions",
    chipset: "q35",
    devices: [
      ...[port(1), port(2), port(3), "igb,bus=port1", "nvme-subsys,id=shared"],
      "nvme,serial=c,subsys=shared,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=10,msix_qsize=10,bus=port2",
      "nvme,serial=d,cmb_size_mb=16,bus=port3",
    ],
    virtualFunctions: 2,
  },
  {
    name: "q35 with virtio, modern",
    chipset: "q35",
    devices: [
      ...behindPorts(...virtio("-non-transitional")),
      ...[
        "virtio-keyboard-pci",
        "virtio-crypto-pci,cryptodev=crypto",
        "virtio-rtc-pci",
        "virtio-sound-pci,audiodev=none",
      ],
      ...["virtio-mem-pci,memdev=extra", "virtio-pmem-pci,memdev=pmem"],
    ],
    args: [
      ...[...DRIVE, "-object", "cryptodev-backend-builtin,id=crypto", "-device", "virtio-tablet-pci"],
      ...[...MEMORY("extra", "128M"), ...MEMORY("pmem", "128M")],
    ],
  },
  {
    name: "q35 with virtio, transitional",
    chipset: "q35",
    devices: ["pcie-pci-bridge,id=old", ...virtio("-transitional", ",bus=old"), ...virtio("").slice(0, -1)],
    args: DRIVE,
  },
  {
    name: "q35 with AMD's IOMMU",
    chipset: "q35",
    devices: ["amd-iommu", ...behindPorts("nvme,serial=e", "virtio-scsi-pci,iommu_platform=on,ats=on", "edu")],
  },
  {
    name: "q35 with virtio's IOMMU and an expander",
    chipset: "q35",
    devices: [
      ...["virtio-iommu-pci", "pxb-pcie,id=node,bus_nr=64,bus=pcie.0", "pcie-root-port,id=far,bus=node,chassis=9"],
      ...["igb,bus=far", "pcie-root-port,id=empty,bus=node,chassis=10,addr=3"],
    ],
    rootBuses: [64],
  },
  {
    name: "q35 with storage",
    chipset: "q35",
    devices: [
      ...["ahci", "megasas", "mptsas1068", "pvscsi", "sdhci-pci", "ufs,serial=f", "lsi53c895a", "am53c974"],
      ...["piix3-ide", "nvme,serial=g,use-intel-id=on", "ich9-usb-ehci1,id=usb,multifunction=on,addr=1d.7"],
      ...[1, 2, 3].map(
        (at) => `ich9-usb-uhci${at},masterbus=usb.0,firstport=${2 * at - 2},multifunction=on,addr=1d.${at - 1}`,
      ),
    ],
  },
  {
    name: "q35 with conventional bridges",
    chipset: "q35",
    devices: [
      "i82801b11-bridge,id=dmi",
      ...["pci-bridge,id=a,bus=dmi,addr=1,chassis_nr=1,shpc=on", "pci-bridge,id=b,bus=a,addr=1,chassis_nr=2,msi=on"],
      ...["e1000,bus=b,addr=2", "vmxnet3,bus=b,addr=3", "nec-usb-xhci,bus=a,addr=2", "intel-hda,bus=dmi,addr=2"],
    ],
  },
  {
    name: "q35 with all sorts",
    chipset: "q35",
    devices: [
      ...["ivshmem-plain,memdev=shm", "pvpanic-pci", "kvaser_pci,canbus=can", "tpci200"],
      ...["rocker,name=sw", "vmware-svga", "bochs-display", "secondary-vga", "ati-vga", "iommu-testdev"],
      ...["acpi-erst,memdev=erst", "pci-ipmi-kcs,bmc=bmc", "pci-ipmi-bt,bmc=bmc2", "edu,dma_mask=0xffffffff"],
    ],
    args: [
      ...[...MEMORY("shm", "1M"), ...MEMORY("erst", "64K"), "-object", "can-bus,id=can"],
      ...["-device", "ipmi-bmc-sim,id=bmc", "-device", "ipmi-bmc-sim,id=bmc2"],
    ],
  },
];
