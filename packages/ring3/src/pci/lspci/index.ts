export {
  type DescribedCapability,
  type DescribedFunction,
  type DescribedRegion,
  type DescribedRegister,
  type DescribeOptions,
  describeFunction,
  LSPCI_SCHEMA_VERSION,
} from "./describe.ts";
export { UnfetchedByteError } from "./fetched-config.ts";
export { FilterError, LspciFilter } from "./filter.ts";
export { LspciFunction } from "./function.ts";
export { type LspciOptions, lspci } from "./lspci.ts";
export { IdNames, type NumericIds } from "./names.ts";
export { LSPCI_JSON_SCHEMA } from "./schema.ts";
