// The project as plain JavaScript for the guest, where starting Node's type stripper takes seconds: types are stripped
// here, by the same stripper, so every line and column in a guest's stack trace is that of the source.
// The result is one cpio archive, unpacked in the guest's memory to /ring3.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { join } from "node:path";
import { messageOf } from "ring3/binary";
import { Cpio } from "./cpio.ts";

const REPOSITORY = join(import.meta.dirname, "../..");

const SOURCES = ["packages", "tests", "bench", "examples"];
const MODULES = ["koffi", "@koromix/koffi-linux-x64", "fast-check", "pure-rand", "yaml"];

/** Stages the tree as it is now: makes `directory`, the future share, with `stage.cpio` in it. */
export function stage(directory: string): void {
  const cpio = new Cpio();
  cpio.file("package.json", JSON.stringify({ type: "module", private: true }));
  for (const folder of SOURCES) addSources(cpio, folder);
  for (const name of MODULES) addModule(cpio, name);
  for (const name of readdirSync(join(REPOSITORY, "packages"))) if (!name.startsWith(".")) addWorkspace(cpio, name);
  mkdirSync(directory);
  writeFileSync(join(directory, "stage.cpio"), cpio.finish());
}

function addSources(cpio: Cpio, folder: string): void {
  cpio.directory(folder);
  for (const name of readdirSync(join(REPOSITORY, folder)).sort()) {
    const path = join(folder, name);
    const source = join(REPOSITORY, path);
    if (statSync(source).isDirectory()) {
      // Folders with a dot are scratch space of other tests.
      if (name !== "node_modules" && name !== "dist" && !name.startsWith(".")) addSources(cpio, path);
    } else if (name.endsWith(".ts")) {
      if (!name.endsWith(".d.ts")) cpio.file(path.replace(/\.ts$/, ".js"), strip(readFileSync(source, "utf8"), path));
    } else if (name === "package.json") {
      cpio.file(path, readFileSync(source, "utf8").replaceAll(/\.ts"/g, '.js"'));
    } else {
      cpio.file(path, readFileSync(source), statSync(source).mode & 0o777);
    }
  }
}

/** Node's stripper, without its notice that it is experimental. */
function stripTypes(source: string): string {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    return stripTypeScriptTypes(source);
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Strips types and points relative specifiers, also those in `new URL("./x.ts", import.meta.url)`, at the `.js`. */
function strip(source: string, path: string): string {
  try {
    return stripTypes(source).replaceAll(/(["'])(\.{1,2}\/[^"'\n]+)\.ts\1/g, "$1$2.js$1");
  } catch (error) {
    // Somebody's half-written file must not stop the rest: only its own import fails.
    const message = messageOf(error);
    return `throw new SyntaxError(${JSON.stringify(`${path} could not be stripped: ${message}`)});`;
  }
}

function addWorkspace(cpio: Cpio, folder: string): void {
  const manifest = readFileSync(join(REPOSITORY, "packages", folder, "package.json"), "utf8");
  const { name } = JSON.parse(manifest) as { name: string };
  cpio.symlink(`node_modules/${name}`, `${"../".repeat(name.split("/").length)}packages/${folder}`);
}

function addModule(cpio: Cpio, name: string): void {
  const target = `node_modules/${name}`;
  cpio.directory(target);
  cpio.tree(target, join(REPOSITORY, target), (path) => {
    return !/^(doc|vendor|browser|musl_x64|README.md|CHANGELOG.md)$|\.(d\.[cm]?ts|cc|hh|inc|S|asm|map)$/.test(path);
  });
}
