// Fields of a register by name, whatever their kind: the model sets what software cannot.
import { type Register, type RegisterField, registerPath } from "../pci/register.ts";

function fieldOf(register: Register, name: string): RegisterField {
  const field = Object.hasOwn(register.fields, name) ? register.fields[name] : undefined;
  if (field !== undefined) return field;
  const names = Object.keys(register.fields).join(", ");
  throw new RangeError(`${registerPath(register)} has no field ${name}; it has ${names}`);
}

/** The bits of the named fields. Throws `RangeError` for a name that is not there. */
export function fieldMask(register: Register, names: readonly string[]): number {
  let mask = 0;
  for (const name of names) mask |= fieldOf(register, name).mask;
  return mask >>> 0;
}

/** `word` with the named fields replaced. Throws `RangeError` where a value does not fit. */
export function withFields(
  register: Register,
  word: number,
  values: Readonly<Record<string, number | undefined>>,
): number {
  let next = word;
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) next = fieldOf(register, name).set(next, value);
  }
  return next;
}
