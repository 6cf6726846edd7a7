export { type AccessPath, type FunctionAccess, functionAccess } from "./access.ts";
export { type FunctionActivity, readActivity } from "./activity.ts";
export {
  type BindingPlan,
  type BindRequest,
  bind,
  planBind,
  planUnbind,
  type UnbindRequest,
  unbind,
} from "./binding.ts";
export { type BindingRecord, boundAddresses, readBindingRecord, recordedAddresses } from "./binding-records.ts";
export { type Host, thisHost } from "./binding-steps.ts";
export { ecamAccess } from "./ecam-access.ts";
export { ERROR_SEVERITIES, type ErrorCounters, type ErrorSeverity, readErrorCounters } from "./error-counters.ts";
export { type ErrorPacket, FunctionLook, type Observation } from "./function-look.ts";
export type { LinkState } from "./function-state.ts";
export { type FunctionWatchOptions, type WatchEvent, watchFunctions } from "./function-watch.ts";
export { type Diagnosis, type ExamineRequest, examine, type Verdict, withFindings } from "./doctor/examine.ts";
export type { Evidence, Finding, Remedy, Severity } from "./doctor/finding.ts";
export { examineOpen, examineRefusal } from "./doctor/first-dma.ts";
export { describeHolders, findHolders, type Holder, type Holders } from "./holders.ts";
export { type MachineUse, machineUses, usesOf } from "./in-use.ts";
export {
  type HostFunction,
  type HostLink,
  type HostResource,
  type HostSriov,
  listFunctions,
  readFunction,
  sysfsAddress,
} from "./inventory.ts";
export { type GroupMember, type IommuGroup, isVfioDriver, listGroups, readGroup } from "./iommu-groups.ts";
export { explainGroup, type GroupIsolation, type Isolation, judgeIsolation } from "./isolation.ts";
export type { Step } from "./journal.ts";
export { FunctionNames } from "./names.ts";
export type { HandOver } from "./node-steps.ts";
export { deviceNode, listVfioNodes, mayOpen, type VfioNode } from "./nodes.ts";
export { type HostOperations, linuxOperations, type NodeOwner } from "./operations.ts";
export { type HostPaths, hostPaths, thisMachine } from "./paths.ts";
export { procAccess } from "./proc-access.ts";
export { type PermitRequest, permit, planPermit, planRevoke, type RevokeRequest, revoke } from "./permission.ts";
export { holdersOf, planReset, type ResetPlan, type ResetRequest, resetFunction } from "./reset.ts";
export { bindVfs, ownsVfs, planSetVfs, planVfs, removeVfs, setVfs, type VfsRequest } from "./sriov.ts";
export { parseResourceLines, sysfsAccess, treeAccess } from "./sysfs-access.ts";
export { type SysfsTreeOptions, writeSysfsTree } from "./sysfs-tree.ts";
export { type HostEvent, HostEvents, type UeventSource, watchHost } from "./uevents.ts";
export { findRules } from "./udev-rules.ts";
export { currentUser, groupName, lookUpGroup, lookUpUser, type User, userName } from "./users.ts";
