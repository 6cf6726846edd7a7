// Joins the emitted modules of a package into two files: what runs anywhere, and what needs Node or native code. Node
// resolves each module's path in JavaScript, and a hundred of them make V8 compile that code with its optimising compiler,
// which costs a driver process some MiB. Each module stays a function of its own that runs when it is first used, so
// nothing is renamed and no order changes. Works on what tsc writes, whose imports and exports are regular; it refuses
// the rest.
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";

const PORTABLE = "joined/portable.js";
const NATIVE = "joined/native.js";

/** A module taken apart. */
interface Part {
  readonly path: string;
  /** What stands in place of the imports, then the rest. */
  readonly body: string;
  /** Exported name to expression. */
  readonly exports: ReadonlyMap<string, string>;
  /** Modules of the package that it needs at once. */
  readonly needs: readonly string[];
  /** Modules all of whose exports it passes on. */
  readonly passesOn: readonly string[];
  /** Packages with a default import, by the local name. */
  readonly packages: ReadonlyMap<string, string>;
  readonly native: boolean;
}

/** `a, b as c` as pairs of outer and local name. */
function names(list: string): [from: string, to: string][] {
  const items = list.split(",").map((item) => item.trim());
  return items.filter(Boolean).map((item) => {
    const [from = "", to = from] = item.split(/\s+as\s+/);
    return [from, to];
  });
}

function takeApart(path: string, source: string): Part {
  const exports = new Map<string, string>();
  const needs: string[] = [];
  const passesOn: string[] = [];
  const packages = new Map<string, string>();
  let builtins = false;
  const target = (specifier: string): string => posix.join(posix.dirname(path), specifier);
  const use = (specifier: string): string => {
    if (specifier.startsWith("node:")) {
      builtins = true;
      return `process.getBuiltinModule(${JSON.stringify(specifier)})`;
    }
    if (!specifier.startsWith("."))
      throw new Error(`${path} imports ${specifier} by name: only a default import is joined`);
    needs.push(target(specifier));
    return `use(${JSON.stringify(target(specifier))})`;
  };
  let count = 0;
  const body = source
    .replace(/^import \{([^}]*)\} from "([^"]+)";$/gm, (_, list: string, specifier: string) => {
      const bindings = names(list).map(([from, to]) => (from === to ? from : `${from}: ${to}`));
      return `const { ${bindings.join(", ")} } = ${use(specifier)};`;
    })
    .replace(
      /^import \* as (\w+) from "([^"]+)";$/gm,
      (_, name: string, from: string) => `const ${name} = ${use(from)};`,
    )
    .replace(/^import (\w+) from "([^".][^":]*)";$/gm, (_, name: string, specifier: string) => {
      packages.set(name, specifier);
      return "";
    })
    .replace(/^export \{([^}]*)\} from "([^"]+)";$/gm, (_, list: string, specifier: string) => {
      const local = `passed${count++}`;
      for (const [from, to] of names(list)) exports.set(to, `${local}.${from}`);
      return `const ${local} = ${use(specifier)};`;
    })
    .replace(/^export \* as (\w+) from "([^"]+)";$/gm, (_, name: string, specifier: string) => {
      exports.set(name, name);
      return `const ${name} = ${use(specifier)};`;
    })
    .replace(/^export \* from "([^"]+)";$/gm, (_, specifier: string) => {
      passesOn.push(target(specifier));
      use(specifier);
      return "";
    })
    .replace(/^export \{([^}]*)\};$/gm, (_, list: string) => {
      for (const [from, to] of names(list)) exports.set(to, from);
      return "";
    })
    .replace(
      /^export ((?:const|class|function\*?|async function\*?) (\w+))/gm,
      (_, declaration: string, name: string) => {
        exports.set(name, name);
        return declaration;
      },
    )
    .replace(/\bimport\("(\.[^"]+)"\)/g, (_, specifier: string) => `Promise.resolve(use("${target(specifier)}"))`);
  const odd = /^(?:import|export)\b.*$|^await .*$|^.*\bimport\.meta\b.*$/m.exec(body);
  if (odd !== null) throw new Error(`${path} cannot be joined because of: ${odd[0]}`);
  return { path, body, exports, needs, passesOn, packages, native: builtins || packages.size > 0 };
}

function joined(parts: readonly Part[], head: string): string {
  const packages = new Map(parts.flatMap((part) => [...part.packages]));
  const imports = [...packages].map(([name, specifier]) => `import ${name} from "${specifier}";\n`).join("");
  const modules = parts.map(({ path, body, exports, passesOn }) => {
    const passed = passesOn.map((other) => `...use(${JSON.stringify(other)}), `).join("");
    const own = [...exports].map(([name, value]) => (name === value ? name : `${name}: ${value}`)).join(", ");
    return `modules[${JSON.stringify(path)}] = () => {\n${body.trim()}\nreturn { ${passed}${own} };\n};\n`;
  });
  return imports + head + modules.join("");
}

const REGISTRY = `export const modules = Object.create(null);
const made = Object.create(null);
export function use(path) {
  return (made[path] ??= modules[path]());
}
`;

/** Replaces the modules in `dist` by the joined files and one small file for each of the `entries` (\`./index.js\`). */
export function joinModules(dist: string, entries: readonly string[]): void {
  const paths = globSync("**/*.js", { cwd: dist }).sort();
  const parts = new Map(paths.map((path) => [path, takeApart(path, readFileSync(join(dist, path), "utf8"))]));
  const native = new Set<string>([...parts.values()].filter((part) => part.native).map(({ path }) => path));
  for (let before = -1; before !== native.size; ) {
    before = native.size;
    for (const { path, needs } of parts.values()) if (needs.some((other) => native.has(other))) native.add(path);
  }
  const all = [...parts.values()];
  for (const path of paths) rmSync(join(dist, path));
  mkdirSync(join(dist, dirname(PORTABLE)), { recursive: true });
  const portable = all.filter(({ path }) => !native.has(path));
  writeFileSync(join(dist, PORTABLE), joined(portable, REGISTRY));
  const imported = `import { modules, use } from "./${posix.basename(PORTABLE)}";\nexport { use };\n`;
  const rest = all.filter(({ path }) => native.has(path));
  writeFileSync(join(dist, NATIVE), joined(rest, imported));
  const exported = (path: string): string[] => {
    const part = parts.get(path);
    if (part === undefined) throw new Error(`${path} was not emitted`);
    return [...new Set([...part.passesOn.flatMap(exported), ...part.exports.keys()])];
  };
  for (const entry of entries.map((path) => posix.normalize(path))) {
    const file = posix.relative(posix.dirname(entry), native.has(entry) ? NATIVE : PORTABLE);
    const specifier = file.startsWith(".") ? file : `./${file}`;
    const lines = exported(entry).map((name) => `export const ${name} = entry.${name};\n`);
    const head = `import { use } from ${JSON.stringify(specifier)};\nconst entry = use(${JSON.stringify(entry)});\n`;
    if (!existsSync(dirname(join(dist, entry)))) throw new Error(`${entry} is no module of ${dist}`);
    writeFileSync(join(dist, entry), head + lines.join(""));
  }
}
