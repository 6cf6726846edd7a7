// What the fake controller says of itself: identify data and log pages.
import {
  Cns,
  IdentifyController,
  IdentifyNamespace,
  LogPage,
  NamespaceList,
  Status,
} from "../../packages/ring3/src/specs/nvme/index.ts";
import type { FakeDisk } from "./fake-nvme.ts";

const PAGE = 4096;

/** The 4096 bytes of an identify command, or a status. */
export function identifyData(
  cns: number,
  nsid: number,
  disks: ReadonlyMap<number, FakeDisk>,
  options: { readonly mdts?: number; readonly sgl?: boolean },
): Uint8Array | number {
  const bytes = new Uint8Array(PAGE);
  switch (cns) {
    case Cns.CONTROLLER:
      return IdentifyController.bytes({
        VID: 0x1b36,
        SN: "FAKE",
        MN: "fake NVMe",
        FR: "1.0",
        MDTS: options.mdts ?? 5,
        VER: 0x10400,
        OAES: 0x100,
        AERL: 3,
        ELPE: 3,
        SQES: 0x66,
        CQES: 0x44,
        NN: 2,
        ONCS: 0x8d,
        SGLS: options.sgl === true ? 1 : 0,
      });
    case Cns.NAMESPACE: {
      const disk = disks.get(nsid);
      if (disk === undefined) return Status.INVALID_NAMESPACE;
      const size = BigInt(disk.bytes.length / disk.blockSize);
      const LBAF = [9, 12].map((shift) => shift << 16);
      const FLBAS = disk.blockSize === 512 ? 0 : 1;
      return IdentifyNamespace.bytes({ NSZE: size, NCAP: size, NUSE: size, NLBAF: 1, FLBAS, LBAF });
    }
    case Cns.ACTIVE_NAMESPACES:
      return NamespaceList.bytes({ NSID: [...disks.keys()].filter((id) => id > nsid).slice(0, 1024) });
    case Cns.NAMESPACE_DESCRIPTORS:
      bytes.set([2, 16, 0, 0, ...Array.from({ length: 16 }, (_, i) => i + nsid)]);
      return bytes;
    case Cns.IO_COMMAND_SET_CONTROLLER:
      return bytes;
    default:
      return Status.INVALID_FIELD;
  }
}

/** `size` bytes of a log page; `undefined` where there is no such page. */
export function logData(page: number, size: number): Uint8Array | undefined {
  const bytes = new Uint8Array(size);
  switch (page) {
    case LogPage.HEALTH:
      bytes.set([0, 0x2c, 1, 100, 10]);
      return bytes;
    case LogPage.FIRMWARE_SLOT:
      bytes.set([1, 0, 0, 0, 0, 0, 0, 0, 0x31, 0x2e, 0x30]);
      return bytes;
    case LogPage.ERROR_INFORMATION:
      bytes[0] = 7;
      return bytes;
    case LogPage.CHANGED_NAMESPACES:
      return bytes;
    default:
      return undefined;
  }
}
