// ring3 serve: PCI functions in software, each on a UNIX socket that speaks vfio-user.
import { type CommandGroup, commandGroup } from "../command.ts";

export const serve: CommandGroup = commandGroup(
  "serve a PCI function in software on a UNIX socket (vfio-user), for a guest or a driver",
  {
    nvme: async () => (await import("./serve/nvme.ts")).nvme,
    edu: async () => (await import("./serve/edu.ts")).edu,
    "virtio-blk": async () => (await import("./serve/virtio-blk.ts")).virtioBlk,
    "virtio-net": async () => (await import("./serve/virtio-net.ts")).virtioNet,
  },
  {
    name: "FILE",
    accepts: (word) => word.includes("/") || /\.[cm]?[jt]s$/.test(word),
    load: async () => (await import("./serve/file.ts")).file,
  },
);
