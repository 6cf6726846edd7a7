// The served device as the protocol offers it: one method per command, answers checked and decoded. It keeps no state but
// the connection; who may call what and when is the business of the classes above.
import { Ring3Error } from "../binary/error.ts";
import type { FileDescriptor } from "../linux/file-descriptor.ts";
import type { DmaPermission } from "../pci/function.ts";
import { type Channel, serverError } from "./client-channel.ts";
import { closeAll, protocolError } from "./client-lane.ts";
import { type DoorbellFd, decodeIoEventFds, decodeRegion, type RegionDescription } from "./client-regions.ts";
import type { Negotiated } from "./client-version.ts";
import {
  Command,
  commandName,
  DeviceFeature,
  DeviceFlag,
  DeviceInfo,
  DmaMap,
  DmaMapFlag,
  DmaUnmap,
  HEADER_SIZE,
  IrqFlag,
  IrqInfo,
  IrqSet,
  IrqSetFlag,
  Region,
  RegionAccessOffset,
  RegionInfo,
  RegionIoFds,
} from "./messages.ts";

export interface DeviceDescription {
  readonly resettable: boolean;
  readonly pci: boolean;
  readonly regionCount: number;
  readonly irqCount: number;
}

export interface IrqDescription {
  readonly count: number;
  readonly eventfd: boolean;
  readonly automasked: boolean;
  /** Vectors cannot be added while others are on. */
  readonly fixedSize: boolean;
}

/** More vectors than MSI-X has are no number of vectors. */
const MAXIMUM_VECTORS = 2048;
/** Answers to information requests that are larger are not believed. */
const LARGEST_ANSWER = 65536;
const ACCESS_BYTES = RegionAccessOffset.DATA;

export class ServedDevice {
  #channel: Channel;
  #negotiated: Negotiated;
  #revive: (() => boolean) | undefined;

  constructor(channel: Channel, negotiated: Negotiated) {
    this.#channel = channel;
    this.#negotiated = negotiated;
  }

  get channel(): Channel {
    return this.#channel;
  }

  get negotiated(): Negotiated {
    return this.#negotiated;
  }

  /**
   * Has `revive` called where a connection is found dead; it returns whether there is another now. Writes to BARs are
   * dropped instead.
   */
  onLoss(revive: () => boolean): void {
    this.#revive = revive;
  }

  /** Talks over another's connection from now on: to the same device, served anew or elsewhere. */
  adopt(other: ServedDevice): void {
    this.#channel = other.#channel;
    this.#negotiated = other.#negotiated;
  }

  info(): DeviceDescription {
    const { lane } = this.channel;
    DeviceInfo.encode(lane.out, HEADER_SIZE, { argsz: DeviceInfo.size, flags: 0, num_regions: 0, num_irqs: 0 });
    this.#call(Command.DEVICE_GET_INFO, DeviceInfo.size, DeviceInfo.size);
    const { flags, num_regions, num_irqs } = DeviceInfo.decode(lane.view, lane.payload);
    return {
      resettable: (flags & DeviceFlag.RESET) !== 0,
      pci: (flags & DeviceFlag.PCI) !== 0,
      regionCount: num_regions,
      irqCount: num_irqs,
    };
  }

  /**
   * A region. The descriptors in the answer are the caller's. Asked again with more room where the server says that its
   * answer did not fit.
   */
  region(index: number): RegionDescription {
    const { lane } = this.channel;
    let room: number = RegionInfo.size;
    for (;;) {
      const request = { argsz: room, flags: 0, index, cap_offset: 0, size: 0n, offset: 0n };
      RegionInfo.encode(lane.out, HEADER_SIZE, request);
      const size = this.channel.call(Command.DEVICE_GET_REGION_INFO, RegionInfo.size, undefined, true);
      const fds = lane.takeFds();
      try {
        if (size < 0) throw serverError(Command.DEVICE_GET_REGION_INFO, -size, `information on region ${index}`);
        if (size < RegionInfo.size) throw protocolError(`${size} bytes of information on region ${index}`);
        const wanted = lane.view.getUint32(lane.payload, true);
        if (wanted > room && wanted <= LARGEST_ANSWER) {
          closeAll(fds.splice(0));
          room = wanted;
          continue;
        }
        const answer = lane.bytes.slice(lane.payload, lane.payload + size);
        const { region, unused } = decodeRegion(index, answer, fds.splice(0));
        closeAll(unused);
        return region;
      } finally {
        closeAll(fds);
      }
    }
  }

  /** Eventfds that stand for writes to a region's registers; none where the server has none. */
  ioEventFds(index: number): DoorbellFd[] {
    const { lane } = this.channel;
    let room: number = RegionIoFds.size;
    for (;;) {
      RegionIoFds.encode(lane.out, HEADER_SIZE, { argsz: room, flags: 0, index, count: 0 });
      const size = this.channel.call(Command.DEVICE_GET_REGION_IO_FDS, RegionIoFds.size, undefined, true);
      const fds = lane.takeFds();
      if (size < RegionIoFds.size) {
        closeAll(fds);
        return [];
      }
      const wanted = lane.view.getUint32(lane.payload, true);
      if (wanted > room && wanted <= LARGEST_ANSWER) {
        closeAll(fds);
        room = wanted;
        continue;
      }
      return decodeIoEventFds(lane.bytes.slice(lane.payload, lane.payload + size), fds);
    }
  }

  irq(index: number): IrqDescription {
    const { lane } = this.channel;
    IrqInfo.encode(lane.out, HEADER_SIZE, { argsz: IrqInfo.size, flags: 0, index, count: 0 });
    const size = this.channel.call(Command.DEVICE_GET_IRQ_INFO, IrqInfo.size);
    // A server without this kind of interrupt may say so by refusing.
    if (size < 0) return { count: 0, eventfd: false, automasked: false, fixedSize: true };
    if (size < IrqInfo.size) throw protocolError(`${size} bytes of information on interrupts`);
    const { flags, count } = IrqInfo.decode(lane.view, lane.payload);
    if (count > MAXIMUM_VECTORS) throw protocolError(`${count} interrupts of kind ${index}`);
    return {
      count,
      eventfd: (flags & IrqFlag.EVENTFD) !== 0,
      automasked: (flags & IrqFlag.AUTOMASKED) !== 0,
      fixedSize: (flags & IrqFlag.NORESIZE) !== 0,
    };
  }

  /** Has vectors from `start` on signal these eventfds, in as many messages as the server needs. */
  setEventfds(index: number, start: number, eventfds: readonly FileDescriptor[]): void {
    const chunk = this.negotiated.maximumFds;
    if (chunk === 0) throw new Ring3Error("NOT_SUPPORTED", "the vfio-user server takes no file descriptors");
    const flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER;
    for (let at = 0; at < eventfds.length; at += chunk) {
      const part = eventfds.slice(at, at + chunk);
      const result = this.#setIrqs(index, flags, start + at, part.length, part);
      if (result < 0) throw serverError(Command.DEVICE_SET_IRQS, -result, "to switch on these interrupts");
    }
  }

  /** Masks, unmasks or raises one vector now. Returns minus the errno where the server refuses. */
  tryActOnVector(index: number, action: number, vector: number): number {
    return this.#setIrqs(index, IrqSetFlag.DATA_NONE | action, vector, 1);
  }

  /** Switches a whole kind of interrupts off. */
  disableIrqs(index: number): void {
    const result = this.#setIrqs(index, IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_TRIGGER, 0, 0);
    if (result < 0) throw serverError(Command.DEVICE_SET_IRQS, -result, "to switch off interrupts");
  }

  #setIrqs(index: number, flags: number, start: number, count: number, fds?: readonly FileDescriptor[]): number {
    try {
      return this.#sendIrqs(index, flags, start, count, fds);
    } catch (error) {
      if (!this.#mayRepeat(error)) throw error;
      return this.#sendIrqs(index, flags, start, count, fds);
    }
  }

  #sendIrqs(index: number, flags: number, start: number, count: number, fds?: readonly FileDescriptor[]): number {
    const { lane } = this.channel;
    IrqSet.encode(lane.out, HEADER_SIZE, { argsz: IrqSet.size, flags, index, start, count });
    return this.channel.call(Command.DEVICE_SET_IRQS, IrqSet.size, fds);
  }

  /** Reads 1, 2 or 4 bytes of a region as an unsigned number; minus the errno where the server refuses. */
  tryRead(region: number, offset: number, width: 1 | 2 | 4): number {
    try {
      return this.#tryRead(region, offset, width);
    } catch (error) {
      if (!this.#mayRepeat(error)) throw error;
      return this.#tryRead(region, offset, width);
    }
  }

  #tryRead(region: number, offset: number, width: 1 | 2 | 4): number {
    const { lane } = this.channel;
    this.#putAccess(region, offset, width);
    const size = this.channel.call(Command.REGION_READ, ACCESS_BYTES);
    if (size < 0) return size;
    const at = lane.payload;
    if (size < ACCESS_BYTES + width || lane.view.getUint32(at + RegionAccessOffset.COUNT, true) !== width) {
      throw shortRead(size - ACCESS_BYTES, width);
    }
    if (width === 4) return lane.view.getUint32(at + ACCESS_BYTES, true);
    return width === 2 ? lane.view.getUint16(at + ACCESS_BYTES, true) : lane.view.getUint8(at + ACCESS_BYTES);
  }

  /** Writes 1, 2 or 4 bytes and awaits that. Returns 0, or minus the errno. */
  tryWrite(region: number, offset: number, width: 1 | 2 | 4, value: number): number {
    try {
      return this.#tryWrite(region, offset, width, value);
    } catch (error) {
      if (this.#mayDrop(region, error)) return 0;
      if (!this.#mayRepeat(error)) throw error;
      return this.#tryWrite(region, offset, width, value);
    }
  }

  #tryWrite(region: number, offset: number, width: 1 | 2 | 4, value: number): number {
    this.#putAccess(region, offset, width);
    this.channel.lane.out.setUint32(HEADER_SIZE + ACCESS_BYTES, value, true);
    return Math.min(0, this.channel.call(Command.REGION_WRITE, ACCESS_BYTES + width));
  }

  /** Fills `bytes` from a region. Returns 0, or minus the errno; what came until then is there. */
  tryReadInto(region: number, offset: number, bytes: Uint8Array): number {
    try {
      return this.#tryReadInto(region, offset, bytes);
    } catch (error) {
      if (!this.#mayRepeat(error)) throw error;
      return this.#tryReadInto(region, offset, bytes);
    }
  }

  #tryReadInto(region: number, offset: number, bytes: Uint8Array): number {
    const { lane } = this.channel;
    const most = this.negotiated.maximumTransferBytes;
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(bytes.length - done, most);
      this.#putAccess(region, offset + done, count);
      const size = this.channel.call(Command.REGION_READ, ACCESS_BYTES);
      if (size < 0) return size;
      if (size < ACCESS_BYTES + count) throw shortRead(size - ACCESS_BYTES, count);
      const from = lane.payload + ACCESS_BYTES;
      bytes.set(lane.bytes.subarray(from, from + count), done);
      done += count;
    }
    return 0;
  }

  /** Writes `bytes` to a region. Returns 0, or minus the errno. */
  tryWriteFrom(region: number, offset: number, bytes: Uint8Array): number {
    try {
      return this.#tryWriteFrom(region, offset, bytes);
    } catch (error) {
      if (this.#mayDrop(region, error)) return 0;
      if (!this.#mayRepeat(error)) throw error;
      return this.#tryWriteFrom(region, offset, bytes);
    }
  }

  #tryWriteFrom(region: number, offset: number, bytes: Uint8Array): number {
    const { lane } = this.channel;
    const most = this.negotiated.maximumTransferBytes;
    for (let done = 0; done < bytes.length; ) {
      const count = Math.min(bytes.length - done, most);
      this.#putAccess(region, offset + done, count);
      lane.outBytes.set(bytes.subarray(done, done + count), HEADER_SIZE + ACCESS_BYTES);
      const size = this.channel.call(Command.REGION_WRITE, ACCESS_BYTES + count);
      if (size < 0) return size;
      done += count;
    }
    return 0;
  }

  /** As {@link tryWriteFrom} for at most one message's data, without awaiting it. */
  postWriteFrom(region: number, offset: number, bytes: Uint8Array): void {
    this.channel.flush();
    this.#putAccess(region, offset, bytes.length);
    this.channel.lane.outBytes.set(bytes, HEADER_SIZE + ACCESS_BYTES);
    this.channel.post(Command.REGION_WRITE, ACCESS_BYTES + bytes.length);
  }

  /** Shows memory to the device, by descriptor where there is one. Returns 0, or minus the errno. */
  tryMap(iova: number, size: number, permission: DmaPermission, fd?: FileDescriptor, fileOffset = 0): number {
    try {
      return this.#tryMap(iova, size, permission, fd, fileOffset);
    } catch (error) {
      if (!this.#mayRepeat(error)) throw error;
      return this.#tryMap(iova, size, permission, fd, fileOffset);
    }
  }

  #tryMap(iova: number, size: number, permission: DmaPermission, fd?: FileDescriptor, fileOffset = 0): number {
    const { out } = this.channel.lane;
    const flags =
      (permission === "write" ? 0 : DmaMapFlag.READABLE) | (permission === "read" ? 0 : DmaMapFlag.WRITEABLE);
    const at = HEADER_SIZE;
    out.setUint32(at, DmaMap.size, true);
    out.setUint32(at + 4, flags, true);
    put64(out, at + 8, fd === undefined ? 0 : fileOffset);
    put64(out, at + 16, iova);
    put64(out, at + 24, size);
    return Math.min(0, this.channel.call(Command.DMA_MAP, DmaMap.size, fd === undefined ? undefined : [fd]));
  }

  /** Takes memory away from the device; afterwards the server has no reference to it. Returns 0, or minus the errno. */
  tryUnmap(iova: number, size: number): number {
    const { out } = this.channel.lane;
    out.setUint32(HEADER_SIZE, DmaUnmap.size, true);
    out.setUint32(HEADER_SIZE + 4, 0, true);
    put64(out, HEADER_SIZE + 8, iova);
    put64(out, HEADER_SIZE + 16, size);
    return Math.min(0, this.channel.call(Command.DMA_UNMAP, DmaUnmap.size));
  }

  async reset(timeoutMs: number): Promise<void> {
    await this.channel.request(Command.DEVICE_RESET, new Uint8Array(0), timeoutMs);
  }

  /**
   * Gets, sets or probes a feature: `data` goes out, at most `replyBytes` of data come back. `undefined` where the server
   * refuses and `optional` says that this is an answer.
   */
  feature(flags: number, data: Uint8Array, replyBytes: number, optional = false): Uint8Array | undefined {
    const { lane } = this.channel;
    const argsz = DeviceFeature.size + Math.max(replyBytes, data.length);
    DeviceFeature.encode(lane.out, HEADER_SIZE, { argsz, flags });
    lane.outBytes.set(data, HEADER_SIZE + DeviceFeature.size);
    const size = this.channel.call(Command.DEVICE_FEATURE, DeviceFeature.size + data.length);
    if (size < 0) {
      if (optional) return undefined;
      throw serverError(Command.DEVICE_FEATURE, -size, `feature ${flags & 0xffff}`);
    }
    if (size < DeviceFeature.size + replyBytes) throw protocolError(`a feature's reply of ${size} bytes`);
    return lane.bytes.slice(lane.payload + DeviceFeature.size, lane.payload + size);
  }

  #mayRepeat(error: unknown): boolean {
    return error === this.#channel.dead && this.#revive?.() === true;
  }

  /** A write to a BAR whose server is away goes nowhere, as on a bus: the driver is told to begin anew afterwards. */
  #mayDrop(region: number, error: unknown): boolean {
    return region <= Region.BAR5 && error === this.#channel.dead && this.#revive !== undefined;
  }

  #putAccess(region: number, offset: number, count: number): void {
    const { out } = this.channel.lane;
    out.setUint32(HEADER_SIZE, offset >>> 0, true);
    out.setUint32(HEADER_SIZE + 4, Math.floor(offset / 2 ** 32), true);
    out.setUint32(HEADER_SIZE + RegionAccessOffset.REGION, region, true);
    out.setUint32(HEADER_SIZE + RegionAccessOffset.COUNT, count, true);
  }

  #call(command: number, size: number, atLeast: number): number {
    const result = this.channel.call(command, size);
    if (result < 0) throw serverError(command, -result);
    if (result < atLeast) throw protocolError(`${commandName(command)} was answered with ${result} bytes`);
    return result;
  }
}

function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function shortRead(size: number, wanted: number): Ring3Error {
  return protocolError(`${Math.max(0, size)} bytes in reply to a read of ${wanted}`);
}
