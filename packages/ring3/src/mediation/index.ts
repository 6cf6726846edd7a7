export type { BarRangeRule } from "./bar-policy.ts";
export { groupOf } from "./config-plan.ts";
export { MediatedFunction, mediate } from "./mediated-function.ts";
export type {
  BarObservation,
  ConfigObservation,
  DmaObservation,
  InterruptObservation,
  MediationObserver,
  NoticeObservation,
  ResetObservation,
  RuleHit,
  SessionObservation,
} from "./observer.ts";
export type { MediationOptions } from "./options.ts";
export {
  type CapabilityRule,
  PowerBudgeting,
  PciXErrorCorrection,
  plainCapability,
  type RegisterHook,
  type RegisterRule,
  type RuleBits,
  type RuleSet,
  raw,
  rule,
  shown,
} from "./rules.ts";
export { linux } from "./rules-linux.ts";
export { strict } from "./rules-strict.ts";
export { vfio2010 } from "./rules-vfio-2010.ts";
