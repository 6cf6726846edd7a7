// Loads a device that its user wrote. The rule is one: the file exports `device`, which is a VirtualFunction, a class of
// one, or a function that makes one; a default export counts as `device`. A file that lies outside any project still
// finds `ring3`: what it cannot resolve itself is taken from the copy that this command uses.
import { existsSync } from "node:fs";
import { registerHooks } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { messageOf } from "ring3/binary";
import type { VirtualFunction } from "ring3/virtual";
import { UsageError } from "../usage-error.ts";

/** What a device gets from `--set NAME=VALUE`. */
export type DeviceSettings = Readonly<Record<string, string>>;

const RULE =
  "export a VirtualFunction as `device`: the function itself, its class, or a function that makes it from the --set options";

/** Loads `path` and makes its device. Throws a UsageError that says what to write where the file has none. */
export async function loadDevice(path: string, settings: DeviceSettings): Promise<VirtualFunction> {
  const exports = await importFile(path);
  const exported = exports["device"] ?? exports["default"];
  if (exported === undefined) {
    const names = Object.keys(exports);
    const found = names.length === 0 ? "exports nothing" : `exports ${names.join(", ")} only`;
    throw new UsageError(`${path} ${found}; ${RULE}`);
  }
  const made: unknown = isFunctionClass(exported)
    ? new exported(settings)
    : typeof exported === "function"
      ? await (exported as (settings: DeviceSettings) => unknown)(settings)
      : exported;
  if (isVirtualFunction(made)) return made;
  throw new UsageError(`what ${path} exports as a device is no VirtualFunction; ${RULE}`);
}

/** `NAME=VALUE` words as an object. */
export function deviceSettings(words: readonly string[]): DeviceSettings {
  const entries = words.map((word): [string, string] => {
    const at = word.indexOf("=");
    if (at < 1) throw new UsageError(`--set takes NAME=VALUE, not "${word}"`);
    return [word.slice(0, at), word.slice(at + 1)];
  });
  return Object.fromEntries(entries);
}

async function importFile(path: string): Promise<Record<string, unknown>> {
  const file = resolve(path);
  if (!existsSync(file)) {
    throw Object.assign(new Error(`there is no file ${path}; ring3 new device NAME writes one to start from`), {
      code: "ENOENT",
    });
  }
  const hooks = registerHooks({
    resolve: (specifier, context, next) => {
      try {
        return next(specifier, context);
      } catch (error) {
        if (!/^ring3(\/|$)/.test(specifier)) throw error;
        return next(specifier, { ...context, parentURL: import.meta.url });
      }
    },
  });
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  } catch (error) {
    const message = messageOf(error);
    throw Object.assign(new Error(`${path} cannot be loaded: ${message}`, { cause: error }), { code: "DEVICE_FILE" });
  } finally {
    hooks.deregister();
  }
}

// By shape and not by class: a user's project may have a copy of the library of its own.
function isVirtualFunction(value: unknown): value is VirtualFunction {
  return typeof value === "object" && value !== null && "readBar" in value && "config" in value && "connect" in value;
}

function isFunctionClass(value: unknown): value is new (settings: DeviceSettings) => unknown {
  if (typeof value !== "function") return false;
  const prototype: unknown = value.prototype;
  return typeof prototype === "object" && prototype !== null && "readBar" in prototype;
}
