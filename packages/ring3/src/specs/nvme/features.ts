// Features and their dword 11: NVMe base 2.0, section 5.27 (set), 5.15 (get).
import { type Fields, fields } from "../../binary/layout.ts";

/** Feature identifiers, base figure 317. */
export const Feature = {
  ARBITRATION: 0x01,
  POWER_MANAGEMENT: 0x02,
  TEMPERATURE_THRESHOLD: 0x04,
  ERROR_RECOVERY: 0x05,
  VOLATILE_WRITE_CACHE: 0x06,
  NUMBER_OF_QUEUES: 0x07,
  INTERRUPT_COALESCING: 0x08,
  INTERRUPT_VECTOR: 0x09,
  WRITE_ATOMICITY: 0x0a,
  ASYNCHRONOUS_EVENTS: 0x0b,
  AUTONOMOUS_POWER_STATES: 0x0c,
  HOST_MEMORY_BUFFER: 0x0d,
  TIMESTAMP: 0x0e,
  KEEP_ALIVE: 0x0f,
  HOST_CONTROLLED_THERMAL: 0x10,
  HOST_BEHAVIOR: 0x16,
  COMMAND_SET_PROFILE: 0x19,
} as const;

const setFeaturesCdw10Bits = { FID: [0, 8], SV: [31] } as const;
/** CDW10 of set features (SV is bit 31) and get features (SEL is bits 10:8). */
export const SetFeaturesCdw10: Fields<typeof setFeaturesCdw10Bits> = fields(setFeaturesCdw10Bits);
const getFeaturesCdw10Bits = { FID: [0, 8], SEL: [8, 3] } as const;
export const GetFeaturesCdw10: Fields<typeof getFeaturesCdw10Bits> = fields(getFeaturesCdw10Bits);
/** Values of SEL. */
export const FeatureSelect = { CURRENT: 0, DEFAULT: 1, SAVED: 2, CAPABILITIES: 3 } as const;

const arbitrationBits = { AB: [0, 3], LPW: [8, 8], MPW: [16, 8], HPW: [24, 8] } as const;
/** Arbitration, section 5.27.1.1. */
export const Arbitration: Fields<typeof arbitrationBits> = fields(arbitrationBits);
const powerManagementBits = { PS: [0, 5], WH: [5, 3] } as const;
/** Power management, section 5.27.1.2. */
export const PowerManagement: Fields<typeof powerManagementBits> = fields(powerManagementBits);
const temperatureThresholdBits = { TMPTH: [0, 16], TMPSEL: [16, 4], THSEL: [20, 2] } as const;
/** Temperature threshold in kelvin, section 5.27.1.3. */
export const TemperatureThreshold: Fields<typeof temperatureThresholdBits> = fields(temperatureThresholdBits);
const volatileWriteCacheBits = { WCE: [0] } as const;
/** Volatile write cache, section 5.27.1.4. */
export const VolatileWriteCache: Fields<typeof volatileWriteCacheBits> = fields(volatileWriteCacheBits);
const numberOfQueuesBits = { SUBMISSION: [0, 16], COMPLETION: [16, 16] } as const;
/** Number of queues, zero-based, both in the request and in the answer, section 5.27.1.5. */
export const NumberOfQueues: Fields<typeof numberOfQueuesBits> = fields(numberOfQueuesBits);
const interruptCoalescingBits = { THR: [0, 8], TIME: [8, 8] } as const;
/** Interrupt coalescing: THR completions (zero-based) or TIME x 100 us, section 5.27.1.6. */
export const InterruptCoalescing: Fields<typeof interruptCoalescingBits> = fields(interruptCoalescingBits);
const interruptVectorBits = { IV: [0, 16], CD: [16] } as const;
/** Interrupt vector configuration, section 5.27.1.7. */
export const InterruptVector: Fields<typeof interruptVectorBits> = fields(interruptVectorBits);
const asynchronousEventsBits = {
  HEALTH: [0, 8],
  NAMESPACE_ATTRIBUTES: [8],
  FIRMWARE_ACTIVATION: [9],
} as const;
/** Asynchronous event configuration, section 5.27.1.9. */
export const AsynchronousEvents: Fields<typeof asynchronousEventsBits> = fields(asynchronousEventsBits);
const errorRecoveryBits = { TLER: [0, 16], DULBE: [16] } as const;
/** Error recovery, NVM command set 1.0, section 4.1.3.2. DULBE: reading deallocated blocks is an error. */
export const ErrorRecovery: Fields<typeof errorRecoveryBits> = fields(errorRecoveryBits);
const writeAtomicityBits = { DN: [0] } as const;
/** Write atomicity normal, NVM command set 1.0, section 4.1.3.3. */
export const WriteAtomicity: Fields<typeof writeAtomicityBits> = fields(writeAtomicityBits);
const featureCapabilitiesBits = { SAVEABLE: [0], NAMESPACE_SPECIFIC: [1], CHANGEABLE: [2] } as const;
/** Answer of get features with SEL CAPABILITIES, base section 5.15. */
export const FeatureCapabilities: Fields<typeof featureCapabilitiesBits> = fields(featureCapabilitiesBits);
/** TEMPERATURE_THRESHOLD: which of the two thresholds THSEL names, and the sensor TMPSEL that stands for all of them. */
export const TemperatureSelect = { OVER: 0, UNDER: 1, ALL_SENSORS: 0xf } as const;
/** Bytes of the timestamp: 48 bits of milliseconds since 1970, then the attributes below in byte 6. Section 5.27.1.14. */
export const TIMESTAMP_SIZE = 8;
const timestampAttributesBits = { SYNCH: [0], ORIGIN: [1, 3] } as const;
/** ORIGIN 0: counts from the last reset, 1: from what the host set. */
export const TimestampAttributes: Fields<typeof timestampAttributesBits> = fields(timestampAttributesBits);
