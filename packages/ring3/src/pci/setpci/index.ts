export { beyondReach, runSetpciOperation, type SetpciOutcome, type SetpciWrite, traceSetpci } from "./execute.ts";
export { fieldMeaning } from "./field-meaning.ts";
export { type FieldOperation, type FieldOutcome, parseFieldOperation, runFieldOperation } from "./field-path.ts";
export { type MaskedValue, parseSetpciOperation, type SetpciOperation } from "./operation.ts";
export { formatRegisterNames, type RegisterName, registerNames } from "./register-names.ts";
export { parseSetpciWord } from "./word.ts";
