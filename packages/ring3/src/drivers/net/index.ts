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
export type { PassingPacket } from "./burst-emitted.ts";
export { Forwarder } from "./forwarder.ts";
export { attachNetQueue, openNetDevice } from "./open.ts";
export { PacketPool, type PacketPoolHandle, type PacketPoolOptions, POOL_STACK_WORD } from "./packet-pool.ts";
export { offloadWord, PACKET_WORDS, PacketFlag, Packets, PacketWord, TRANSMIT_FLAGS } from "./packets.ts";
export type { StackDhcpOptions } from "./address-by-dhcp.ts";
export { Stack } from "./stack.ts";
export { QueueDevice, type QueueDeviceFacts } from "./queue-device.ts";
export {
  type ReceiveSteering,
  type ReceiveSteeringOptions,
  receiveSteering,
  SteeredQueue,
  type SteeringStatistics,
} from "./receive-steering.ts";
export type { StackDevice } from "./stack-device.ts";
export type { PermanentNeighbour, StackConfiguration, StackOptions } from "./stack-options.ts";
export { SteeredDevice } from "./steered-device.ts";
export type { PortRange } from "./udp-ports.ts";
export type { StackStatistics } from "./stack-statistics.ts";
export type { PingOptions, PingReply } from "./pinger.ts";
export type { DhcpLease } from "./dhcp-client.ts";
export { ipv4, ipv4Text } from "./ipv4-address.ts";
export type { NeighbourLimits, NeighbourStatistics } from "./neighbours.ts";
export type { ReassemblyLimits, ReassemblyStatistics } from "./reassembly.ts";
export {
  type Datagram,
  type DatagramListener,
  type UdpBindOptions,
  UdpEndpoint,
  type UdpEndpointStatistics,
} from "./udp-endpoint.ts";
