export type { DeviceTraceOptions } from "./client-trace.ts";
export { DeviceTrace } from "./device-trace.ts";
export {
  type AccessEvent,
  type DecodedValue,
  isAccess,
  type OpenEvent,
  TRACE_VERSION,
  type TraceEvent,
  type TraceEventOf,
  type TraceEventType,
  type TraceSink,
  type TracedBarShape,
} from "./event.ts";
export { filtered, type TraceFilter, traceFilter } from "./filter.ts";
export {
  encodeTrace,
  JsonLines,
  parseHeader,
  parseLine,
  parseTrace,
  type Trace,
  type TraceHeader,
} from "./json-lines.ts";
export {
  type InterruptStatistics,
  type LatencyNs,
  type RegisterStatistics,
  type TraceStatistics,
  TraceSummary,
} from "./statistics.ts";
export { MediationTrace } from "./mediation-trace.ts";
export { PcapngSink } from "./pcapng.ts";
export { eventText } from "./text.ts";
export { type TraceOptions, traced } from "./traced.ts";
