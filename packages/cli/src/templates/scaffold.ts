// Writing a starting point: a new directory with a few files. Nothing that exists is ever overwritten, and what was
// written can be run at once: where `ring3` cannot be found from there, it is linked to the copy that this command uses.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../usage-error.ts";

export interface Scaffold {
  /** As it was given. */
  readonly directory: string;
  readonly files: readonly string[];
  /** Where `ring3` was linked from, if that was needed. */
  readonly linked: string | undefined;
}

/** What templates are filled with. */
export interface ScaffoldName {
  /** The directory's own name: `checksum-engine`. */
  readonly name: string;
  /** For classes: `ChecksumEngine`. */
  readonly pascalName: string;
}

/** The names that `directory` gives. Throws a UsageError where they cannot be names. */
export function scaffoldName(directory: string): ScaffoldName {
  const name = basename(resolve(directory));
  if (!/^[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*$/.test(name)) {
    throw new UsageError(
      `"${name}" cannot be the name of a class: use letters, digits and hyphens, as in checksum-engine`,
    );
  }
  const words = name.split(/[-_]/).map((word) => `${word[0]?.toUpperCase() ?? ""}${word.slice(1)}`);
  return { name, pascalName: words.join("") };
}

/** Writes `files` below `directory`, which must be empty or absent; on a failure nothing stays behind. */
export function writeScaffold(directory: string, files: Readonly<Record<string, string>>): Scaffold {
  const existed = existsSync(directory);
  if (existed && readdirSync(directory).length > 0) {
    throw new UsageError(`${directory} exists and is not empty; nothing was written: choose another name`);
  }
  const written: string[] = [];
  try {
    mkdirSync(directory, { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      const path = join(directory, name);
      writeFileSync(path, text, { flag: "wx" });
      written.push(path);
    }
    return { directory, files: written, linked: linkLibrary(directory) };
  } catch (error) {
    for (const path of written) rmSync(path, { force: true });
    if (!existed) rmSync(directory, { recursive: true, force: true });
    throw error;
  }
}

/** Puts a link to `ring3` into the directory's node_modules, unless `ring3` is found from there already. */
function linkLibrary(directory: string): string | undefined {
  const place = resolve(directory);
  if (isFoundFrom(realpathSync(place))) return undefined;
  const library = libraryDirectory();
  mkdirSync(join(place, "node_modules"));
  symlinkSync(library, join(place, "node_modules", "ring3"));
  return library;
}

function isFoundFrom(directory: string): boolean {
  try {
    createRequire(join(directory, "x.js")).resolve("ring3");
    return true;
  } catch {
    return false;
  }
}

/** The package `ring3` that this command imports: the nearest directory above its entry with that manifest. */
function libraryDirectory(): string {
  const entry = realpathSync(fileURLToPath(import.meta.resolve("ring3")));
  for (let directory = dirname(entry); directory !== dirname(directory); directory = dirname(directory)) {
    try {
      const { name } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as { name?: string };
      if (name === "ring3") return directory;
    } catch {
      // The manifest is further up.
    }
  }
  throw new Error(`no package.json of ring3 above ${entry}`);
}

/** A manifest that says what the files need. */
export function scaffoldManifest({ name }: ScaffoldName, version: string): string {
  const manifest = {
    name,
    version: "0.1.0",
    private: true,
    type: "module",
    engines: { node: ">=24" },
    scripts: { test: "node --test" },
    dependencies: { ring3: `^${version}` },
  };
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** How `path` is best shown to somebody who stands in the working directory. */
export function shownPath(path: string): string {
  const short = relative(process.cwd(), resolve(path));
  return short === "" || short.startsWith("..") ? path : `./${short}`;
}
