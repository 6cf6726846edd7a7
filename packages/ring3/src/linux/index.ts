export {
  adoptArena,
  adviseHugePages,
  attachArena,
  createArena,
  defaultArena,
  type LinuxArenaOptions,
} from "./arena-memory.ts";
export { bootTimeMs, monotonicMs } from "./clock.ts";
export { ERRNO, type ErrnoName, errnoName, systemCallError } from "./errno.ts";
export { type EthernetReceiver, EthernetStream, type StreamAddress } from "./ethernet-stream.ts";
export { EventFd } from "./event-fd.ts";
export { type EventSignals, eventSignals } from "./event-signals.ts";
export { FileIntegers, readAt, tryReadAt, tryWriteAt, writeAt } from "./file-access.ts";
export { type FileBacking, type FileBackingOptions, fileBacking } from "./file-backing.ts";
export { FileDescriptor, OPEN } from "./file-descriptor.ts";
export { type EmbeddedPointer, ioctl, tryIoctl } from "./ioctl.ts";
export {
  type Limit,
  lockedMemory,
  lockedMemoryLimit,
  mayLockWithoutLimit,
  openFilesCount,
  openFilesLimit,
} from "./limits.ts";
export { MappedMemory } from "./mapped-memory.ts";
export { createMemoryFile, type MemoryFileOptions, sealAgainstWriting } from "./memory-file.ts";
export { type MapOptions, pageSize } from "./memory-map.ts";
export { becomesSignal, examinePeerFile, type PeerFile } from "./peer-files.ts";
export type { Pointable } from "./pointers.ts";
export { type Readiness, type Watch, type WatchOptions, waitReadable, watch } from "./poller.ts";
export { type ListeningPlace, listenAt } from "./server-socket.ts";
export { type SharedArea, type SharedInPlace, shareInPlace } from "./shared-in-place.ts";
export { SharedMemoryPool, type SharedPiece } from "./shared-pool.ts";
export { mapShared, reserveShared, type SharedFile, type SharedRange, shareRange } from "./shared-range.ts";
export { type ChannelArea, SocketChannel, type SocketChannelOptions } from "./socket-channel.ts";
export {
  boundPath,
  type ListenOptions,
  type PeerCredentials,
  type Received,
  type SocketKind,
  UnixListener,
  UnixSocket,
} from "./sockets.ts";
export { type SleepClocks, SuspendWatch } from "./suspend-watch.ts";
export { Tap } from "./tap.ts";
export { parseUevent, type Uevent, type UeventNotice, UeventStream } from "./uevents.ts";
export { DeviceWindow } from "./windows.ts";
