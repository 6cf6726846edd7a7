export { DriverEvents } from "../events.ts";
export type {
  AttachedNetQueue,
  LinkState,
  NetCapabilities,
  NetDevice,
  NetDeviceOptions,
  NetEventMap,
  NetQueue,
  NetQueueHandle,
  NetQueueStatistics,
  NetStatistics,
  NetWorkerQueue,
  NetWorkerQueueOptions,
  ReceiveMode,
  ReceiveModeFilter,
  ReceiveWaitOptions,
} from "./device.ts";
export { attachNetQueue, openNetDevice } from "./open.ts";
export { PacketPool, type PacketPoolHandle, type PacketPoolOptions, POOL_STACK_WORD } from "./packet-pool.ts";
export { offloadWord, PACKET_WORDS, PacketFlag, Packets, PacketWord, TRANSMIT_FLAGS } from "./packets.ts";
