// What a class code says: base class, subclass and programming interface. PCI Code and ID Assignment Specification 1.16,
// chapter 1. For the names that lspci prints take a pci.ids file.

type Subclass = string | readonly [name: string, interfaces: Readonly<Record<number, string>>];

const classes: Readonly<Record<number, readonly [name: string, subclasses: Readonly<Record<number, Subclass>>]>> = {
  0x00: ["Unclassified device", { 0x00: "Unclassified device, not VGA", 0x01: "Unclassified device, VGA compatible" }],
  0x01: [
    "Mass storage controller",
    {
      0x00: ["SCSI controller", { 0x11: "SCSI storage device, PQI", 0x12: "SCSI controller, PQI", 0x21: "SCSI, NVMe" }],
      0x01: "IDE controller",
      0x02: "Floppy disk controller",
      0x03: "IPI controller",
      0x04: "RAID controller",
      0x05: ["ATA controller with ADMA", { 0x20: "Single stepping", 0x30: "Continuous operation" }],
      0x06: ["Serial ATA controller", { 0x00: "Vendor specific", 0x01: "AHCI", 0x02: "Serial storage bus" }],
      0x07: ["Serial attached SCSI controller", { 0x00: "Vendor specific", 0x01: "Serial storage bus" }],
      0x08: [
        "Non-volatile memory controller",
        { 0x00: "Vendor specific", 0x01: "NVMHCI", 0x02: "NVM Express I/O", 0x03: "NVM Express administrative" },
      ],
      0x09: ["Universal flash storage controller", { 0x00: "Vendor specific", 0x01: "UFSHCI" }],
      0x80: "Other mass storage controller",
    },
  ],
  0x02: [
    "Network controller",
    {
      0x00: "Ethernet controller",
      0x01: "Token ring controller",
      0x02: "FDDI controller",
      0x03: "ATM controller",
      0x04: "ISDN controller",
      0x05: "WorldFip controller",
      0x06: "PICMG 2.14 multi-computing",
      0x07: "InfiniBand controller",
      0x08: "Host fabric controller",
      0x80: "Other network controller",
    },
  ],
  0x03: [
    "Display controller",
    {
      0x00: ["VGA-compatible controller", { 0x00: "VGA", 0x01: "8514" }],
      0x01: "XGA controller",
      0x02: "3D controller",
      0x80: "Other display controller",
    },
  ],
  0x04: [
    "Multimedia device",
    {
      0x00: "Video device",
      0x01: "Audio device",
      0x02: "Telephony device",
      0x03: ["High definition audio device", { 0x00: "HD Audio 1.0", 0x80: "HD Audio 1.0 with vendor extensions" }],
      0x80: "Other multimedia device",
    },
  ],
  0x05: [
    "Memory controller",
    {
      0x00: "RAM",
      0x01: "Flash memory",
      0x02: ["CXL memory device", { 0x00: "Vendor specific", 0x10: "CXL 2.0 or later" }],
      0x80: "Other memory controller",
    },
  ],
  0x06: [
    "Bridge",
    {
      0x00: "Host bridge",
      0x01: "ISA bridge",
      0x02: "EISA bridge",
      0x03: "MicroChannel bridge",
      0x04: ["PCI-to-PCI bridge", { 0x00: "Positive decode", 0x01: "Subtractive decode" }],
      0x05: "PCMCIA bridge",
      0x06: "NuBus bridge",
      0x07: "CardBus bridge",
      0x08: ["RACEway bridge", { 0x00: "Transparent", 0x01: "Endpoint" }],
      0x09: [
        "Semi-transparent PCI-to-PCI bridge",
        { 0x40: "Primary side to the host", 0x80: "Secondary side to the host" },
      ],
      0x0a: "InfiniBand-to-PCI host bridge",
      0x0b: ["Advanced switching to PCI host bridge", { 0x00: "Custom interface", 0x01: "ASI-SIG interface" }],
      0x80: "Other bridge",
    },
  ],
  0x07: [
    "Simple communication controller",
    {
      0x00: [
        "Serial controller",
        { 0x00: "XT", 0x01: "16450", 0x02: "16550", 0x03: "16650", 0x04: "16750", 0x05: "16850", 0x06: "16950" },
      ],
      0x01: [
        "Parallel port",
        { 0x00: "Plain", 0x01: "Bidirectional", 0x02: "ECP 1.x", 0x03: "IEEE 1284", 0xfe: "IEEE 1284 device" },
      ],
      0x02: "Multiport serial controller",
      0x03: "Modem",
      0x04: "GPIB controller",
      0x05: "Smart card controller",
      0x80: "Other communication controller",
    },
  ],
  0x08: [
    "Base system peripheral",
    {
      0x00: ["Interrupt controller", { 0x00: "8259", 0x01: "ISA", 0x02: "EISA", 0x10: "I/O APIC", 0x20: "I/O xAPIC" }],
      0x01: ["DMA controller", { 0x00: "8237", 0x01: "ISA", 0x02: "EISA" }],
      0x02: ["Timer", { 0x00: "8254", 0x01: "ISA", 0x02: "EISA", 0x03: "HPET" }],
      0x03: ["Real-time clock", { 0x00: "Generic", 0x01: "ISA" }],
      0x04: "PCI hot-plug controller",
      0x05: "SD host controller",
      0x06: "IOMMU",
      0x07: "Root complex event collector",
      0x80: "Other system peripheral",
    },
  ],
  0x09: [
    "Input device",
    {
      0x00: "Keyboard controller",
      0x01: "Digitizer",
      0x02: "Mouse controller",
      0x03: "Scanner controller",
      0x04: ["Game port", { 0x00: "Generic", 0x10: "Extended" }],
      0x80: "Other input controller",
    },
  ],
  0x0a: ["Docking station", { 0x00: "Generic docking station", 0x80: "Other docking station" }],
  0x0b: [
    "Processor",
    {
      0x00: "386",
      0x01: "486",
      0x02: "Pentium",
      0x10: "Alpha",
      0x20: "PowerPC",
      0x30: "MIPS",
      0x40: "Coprocessor",
      0x80: "Other processor",
    },
  ],
  0x0c: [
    "Serial bus controller",
    {
      0x00: ["IEEE 1394 controller", { 0x00: "Generic", 0x10: "OHCI" }],
      0x01: "ACCESS.bus controller",
      0x02: "SSA controller",
      0x03: [
        "USB controller",
        { 0x00: "UHCI", 0x10: "OHCI", 0x20: "EHCI", 0x30: "xHCI", 0x40: "USB4", 0x80: "Other", 0xfe: "USB device" },
      ],
      0x04: "Fibre channel controller",
      0x05: "SMBus controller",
      0x06: "InfiniBand controller",
      0x07: ["IPMI controller", { 0x00: "SMIC", 0x01: "Keyboard style", 0x02: "Block transfer" }],
      0x08: "SERCOS controller",
      0x09: "CAN bus controller",
      0x0a: "MIPI I3C controller",
      0x80: "Other serial bus controller",
    },
  ],
  0x0d: [
    "Wireless controller",
    {
      0x00: "iRDA controller",
      0x01: ["Infrared controller", { 0x00: "Consumer infrared", 0x10: "UWB radio" }],
      0x10: "Radio controller",
      0x11: "Bluetooth controller",
      0x12: "Broadband controller",
      0x20: "Ethernet 802.11a controller",
      0x21: "Ethernet 802.11b controller",
      0x40: "Cellular modem",
      0x41: "Cellular modem with Ethernet 802.11",
      0x80: "Other wireless controller",
    },
  ],
  0x0e: ["Intelligent I/O controller", { 0x00: "I2O controller" }],
  0x0f: [
    "Satellite controller",
    { 0x01: "TV", 0x02: "Audio", 0x03: "Voice", 0x04: "Data", 0x80: "Other satellite controller" },
  ],
  0x10: [
    "Encryption controller",
    { 0x00: "Network and computing", 0x10: "Entertainment", 0x80: "Other encryption controller" },
  ],
  0x11: [
    "Signal processing controller",
    {
      0x00: "DPIO module",
      0x01: "Performance counters",
      0x10: "Communication synchronization, test and measurement",
      0x20: "Management card",
      0x80: "Other signal processing controller",
    },
  ],
  0x12: ["Processing accelerator", { 0x00: "Processing accelerator", 0x01: "SDXI accelerator" }],
  0x13: ["Non-essential instrumentation", {}],
  0x40: ["Coprocessor", {}],
  0xff: ["Device that fits no class", {}],
};

/** Names for the parts of a class code; `undefined` where a part is unknown or has no name. */
export interface ClassName {
  readonly baseClass: string | undefined;
  readonly subclass: string | undefined;
  readonly programmingInterface: string | undefined;
}

/** Names for the 24 bits of a class code: `0x010802` is mass storage, non-volatile memory, NVM Express. */
export function className(classCode: number): ClassName {
  const found = classes[(classCode >>> 16) & 0xff];
  const subclass = found?.[1][(classCode >>> 8) & 0xff];
  return {
    baseClass: found?.[0],
    subclass: typeof subclass === "string" ? subclass : subclass?.[0],
    programmingInterface: typeof subclass === "string" ? undefined : subclass?.[1][classCode & 0xff],
  };
}

/** The most telling name of a class code, such as `Non-volatile memory controller`. */
export function classDescription(classCode: number): string {
  const { baseClass, subclass } = className(classCode);
  return subclass ?? baseClass ?? `class ${(classCode >>> 8).toString(16).padStart(4, "0")}`;
}
