export { SYSTEM_CALLS, type SystemCallReport } from "./diagnostics.ts";
export type { CompletionPlace, CompletionPlaces, MemoryReader } from "./completion-places.ts";
export { isRing3Error, messageOf, Ring3Error } from "./error.ts";
export { bit, bits, Field } from "./field.ts";
export { hexdump } from "./hexdump.ts";
export {
  LinkType,
  type PcapngInterface,
  pcapngInterface,
  pcapngPacketBytes,
  pcapngSection,
  pcapngStatistics,
  putPcapngPacket,
} from "./pcapng.ts";
export type { DeviceRegisters, PlacedRegister, RegisterMap } from "./register-map.ts";
export {
  array,
  ascii,
  bytes,
  i32,
  type Member,
  type Struct,
  type StructValue,
  struct,
  u8,
  u16,
  u32,
  u64,
  u128,
} from "./struct.ts";
