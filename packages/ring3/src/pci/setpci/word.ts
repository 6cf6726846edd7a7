// Tells setpci's words from field names. A width is one letter, and a field's name never is, so the two do not meet:
// COMMAND.w is setpci's, COMMAND.BUS_MASTER a field; a name that setpci lacks (BAR0) is looked for among ours.
import { type FieldOperation, isHeaderRegister, parseFieldOperation } from "./field-path.ts";
import { isSetpciBase, parseSetpciOperation, type SetpciOperation } from "./operation.ts";

/** Parses one operation of a command line. Throws `SETPCI_SYNTAX` or `FIELD_UNKNOWN`. */
export function parseSetpciWord(text: string): SetpciOperation | FieldOperation {
  const [path = ""] = text.split(/[=@]/);
  const dot = path.indexOf(".");
  const named = dot >= 0 ? path.length - dot > 2 : !isSetpciBase(path) && isHeaderRegister(path);
  return named ? parseFieldOperation(text) : parseSetpciOperation(text);
}
