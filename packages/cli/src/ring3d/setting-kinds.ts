// Kinds of settings of a configuration file: each reads a value of the YAML file, says what is wrong with it, and says in the
// words of JSON schema what it takes.
import { nearest, parseInteger } from "../parse.ts";
import type { ValueProblem } from "../yaml-file.ts";

type Path = ValueProblem["path"];

/** Takes a value of the file, or reports why not and gives `undefined`. */
export interface SettingKind<T> {
  readonly schema: object;
  read(value: unknown, path: Path, report: (problem: ValueProblem) => void): T | undefined;
}

interface Setting<T> {
  readonly description: string;
  readonly kind: SettingKind<T>;
  /** What holds where the file is silent, for the explanation and the schema; absent where there is nothing. */
  readonly initial?: T;
  readonly required?: boolean;
}

export type SettingTable = Readonly<Record<string, Setting<unknown>>>;

export type SettingValues<T extends SettingTable> = {
  readonly [K in keyof T]: T[K] extends Setting<infer V>
    ? T[K] extends { readonly required: true } | { readonly initial: V }
      ? V
      : V | undefined
    : never;
};

/** A kind that a plain function makes: it gives the value, or throws `RangeError` with what would be right. */
export function scalar<T>(schema: object, read: (value: unknown) => T): SettingKind<T> {
  return {
    schema,
    read: (value, path, report) => {
      try {
        return read(value);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        report({ path, message: error.message });
        return undefined;
      }
    },
  };
}

/** Text; `check` throws `RangeError` for what it does not take. */
export function text(check?: (value: string) => void, schema: object = {}): SettingKind<string> {
  return scalar({ type: "string", ...schema }, (value) => {
    if (typeof value !== "string" || value === "") throw new RangeError(`a text is wanted, not ${shown(value)}`);
    check?.(value);
    return value;
  });
}

export const flag: SettingKind<boolean> = scalar({ type: "boolean" }, (value) => {
  if (typeof value !== "boolean") throw new RangeError(`true or false is wanted, not ${shown(value)}`);
  return value;
});

export function integer(minimum: number, maximum: number): SettingKind<number> {
  return scalar({ type: "integer", minimum, maximum }, (value) => {
    if (!Number.isSafeInteger(value) || Number(value) < minimum || Number(value) > maximum) {
      throw new RangeError(`a whole number from ${minimum} to ${maximum} is wanted, not ${shown(value)}`);
    }
    return Number(value);
  });
}

/** A number of bytes: 4096, 64K, 1G. */
export function bytes(minimum: number): SettingKind<number> {
  const schema = {
    oneOf: [
      { type: "integer", minimum },
      { type: "string", pattern: "^[1-9][0-9]*[KMGT]$" },
    ],
  };
  return scalar(schema, (value) => {
    const size = /^\d+[KMGT]?$/.test(String(value)) ? Number(parseInteger(String(value))) : Number.NaN;
    if (Number.isSafeInteger(size) && size >= minimum) return size;
    throw new RangeError(
      `a number of bytes is wanted, at least ${minimum}, as in 4096, 64K or 1G, not ${shown(value)}`,
    );
  });
}

export function choice<const T extends string>(choices: readonly T[]): SettingKind<T> {
  return scalar({ enum: choices }, (value) => {
    const found = choices.find((one) => one === value);
    if (found !== undefined) return found;
    const near = typeof value === "string" ? nearest(value, choices) : undefined;
    const meant = near === undefined ? "" : `; did you mean ${near}?`;
    throw new RangeError(`one of ${choices.join(", ")} is wanted, not ${shown(value)}${meant}`);
  });
}

/** A list; one value alone counts as a list of it. */
export function list<T>(of: SettingKind<T>): SettingKind<readonly T[]> {
  return {
    schema: { oneOf: [of.schema, { type: "array", items: of.schema }] },
    read: (value, path, report) => {
      if (!Array.isArray(value)) {
        const one = of.read(value, path, report);
        return one === undefined ? undefined : [one];
      }
      return value.flatMap((entry: unknown, index) => {
        const read = of.read(entry, [...path, index], report);
        return read === undefined ? [] : [read];
      });
    },
  };
}

/** A mapping with the settings of `table`. */
export function settings<const T extends SettingTable>(table: T): SettingKind<SettingValues<T>> {
  const entries = Object.entries(table);
  return {
    schema: {
      type: "object",
      properties: Object.fromEntries(
        entries.map(([name, { kind, description, initial }]) => [
          name,
          { description, ...kind.schema, ...(initial === undefined ? {} : { default: initial }) },
        ]),
      ),
      required: entries.filter(([, { required }]) => required === true).map(([name]) => name),
      additionalProperties: false,
    },
    read: (value, path, report) => {
      if (!isMapping(value)) {
        report({ path, message: `settings are wanted, as in "name: value", not ${shown(value)}` });
        return undefined;
      }
      for (const name of Object.keys(value)) {
        if (Object.hasOwn(table, name)) continue;
        const near = nearest(name, Object.keys(table));
        const meant = near === undefined ? `there are ${Object.keys(table).join(", ")}` : `did you mean ${near}?`;
        report({ path: [...path, name], message: `there is no setting "${name}"; ${meant}` });
      }
      const read = entries.map(([name, { kind, initial, required }]) => {
        const given: unknown = value[name];
        if (given !== undefined) return [name, kind.read(given, [...path, name], report)];
        if (required === true) report({ path, message: `"${name}" is missing` });
        return [name, initial];
      });
      return Object.fromEntries(read) as SettingValues<T>;
    },
  };
}

/** A mapping from names, which `check` judges, to values of one kind. */
export function named<T>(of: SettingKind<T>, check: (name: string) => void): SettingKind<ReadonlyMap<string, T>> {
  return {
    schema: { type: "object", additionalProperties: of.schema },
    read: (value, path, report) => {
      if (!isMapping(value)) {
        report({ path, message: `names with settings are wanted, not ${shown(value)}` });
        return undefined;
      }
      const found = new Map<string, T>();
      for (const [name, entry] of Object.entries(value)) {
        const place = [...path, name];
        scalar({}, () => check(name)).read(name, place, report);
        const read = of.read(entry, place, report);
        if (read !== undefined) found.set(name, read);
      }
      return found;
    },
  };
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  const json = JSON.stringify(value);
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
