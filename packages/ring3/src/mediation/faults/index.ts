export { DeviceFaults, type DeviceFaultsOptions } from "./device-faults.ts";
export { type FaultyOptions, faulty, type Injection } from "./faulty.ts";
export {
  checkFaultPlan,
  type Fault,
  type FaultKind,
  type FaultPlace,
  type FaultPlan,
  type FaultTiming,
  faultKinds,
  faultPlanProblems,
  type PlanProblem,
} from "./plan.ts";
