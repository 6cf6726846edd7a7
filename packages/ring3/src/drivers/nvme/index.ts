export { AsynchronousEventType, IoOpcode } from "../../specs/nvme/commands.ts";
export { Feature, FeatureSelect } from "../../specs/nvme/features.ts";
export { Status, statusName } from "../../specs/nvme/status.ts";
export type {
  ErrorLogEntry,
  FirmwareLog,
  HealthLog,
  IdentifyController,
  IdentifyNamespace,
} from "../../specs/nvme/structs.ts";
export { type Clock, systemClock } from "../clock.ts";
export type { Admin, NamespaceIdentifier } from "./admin.ts";
export { AttachedQueue, type AttachOptions, attachQueue } from "./attached-queue.ts";
export { createBurst, referenceBurst } from "./burst.ts";
export {
  type Burst,
  type BurstDoorbells,
  type BurstPlace,
  BurstState,
  REQUEST_WORDS,
  RESULT_WORDS,
  RequestWord,
  ResultWord,
  resetBurst,
  type SlotAddresses,
} from "./burst-place.ts";
export type { CompletionMode } from "./completion-wait.ts";
export type { ControllerCapabilities } from "./controller.ts";
export { NvmeDriver } from "./driver.ts";
export type { NvmeEventMap, NvmeEventName, NvmeEvents } from "./driver-events.ts";
export { isNvmeStatus, NvmeStatusError } from "./errors.ts";
export {
  type BlockAddress,
  type BlockBuffer,
  type BlockLimits,
  Namespace,
  type NamespaceShape,
  type WriteOptions,
} from "./namespace.ts";
export type { InterruptKind } from "./queue-interrupts.ts";
export type { RawRing, RawRingOptions } from "./raw-ring.ts";
export { REAPED_WORDS, ReapedWord, Ring } from "./ring.ts";
export type { NvmeOptions } from "./settings.ts";
export type { WorkerQueue, WorkerQueueHandle, WorkerQueueOptions } from "./worker-queue.ts";
