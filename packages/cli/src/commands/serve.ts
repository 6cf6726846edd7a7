// ring3 serve: PCI functions in software, or real ones behind rules, each on a UNIX socket that speaks vfio-user.
import { type CommandGroup, commandGroup } from "../command.ts";

export const serve: CommandGroup = commandGroup(
  "serve a PCI function, in software or a real one behind rules, on a UNIX socket (vfio-user), for a guest or a driver",
  {
    nvme: async () => (await import("./serve/nvme.ts")).nvme,
    edu: async () => (await import("./serve/edu.ts")).edu,
    "virtio-blk": async () => (await import("./serve/virtio-blk.ts")).virtioBlk,
    "virtio-net": async () => (await import("./serve/virtio-net.ts")).virtioNet,
    pci: async () => (await import("./serve/pci.ts")).pci,
  },
  {
    name: "FILE",
    accepts: (word) => word.includes("/") || /\.[cm]?[jt]s$/.test(word),
    load: async () => (await import("./serve/file.ts")).file,
  },
);
