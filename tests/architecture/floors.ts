// The floors of ARCHITECTURE.md as data, and the reading of imports that the test checks against it.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** What each floor of `packages/ring3/src` may import, besides itself. */
export const floors: Readonly<Record<string, readonly string[]>> = {
  binary: [],
  memory: ["binary"],
  pci: ["memory", "binary"],
  specs: ["binary"],
  linux: ["memory", "binary"],
  vfio: ["host", "linux", "memory", "pci", "binary"],
  host: ["linux", "pci", "binary"],
  virtual: ["memory", "pci", "binary"],
  mediation: ["virtual", "memory", "pci", "binary"],
  "vfio-user": ["linux", "virtual", "memory", "pci", "binary"],
  devices: ["virtual", "memory", "specs", "pci", "binary"],
  drivers: ["memory", "pci", "specs", "binary"],
};

/** Floors that run in a browser: nothing from `node:`, no package. */
export const browserSafe: readonly string[] = [
  "binary",
  "memory",
  "pci",
  "specs",
  "virtual",
  "mediation",
  "devices",
  "drivers",
];

/** Which packages a floor may import; every other floor may import none. */
const packagesOf: Readonly<Record<string, readonly string[]>> = { linux: ["koffi"] };

export interface Import {
  /** Path of the importing file below `root`. */
  readonly file: string;
  readonly line: number;
  /** The specifier as written. */
  readonly specifier: string;
}

/** Every static and dynamic import of the sources below `root`, tests left out. */
export function importsBelow(root: string): Import[] {
  const found: Import[] = [];
  for (const file of globSync("**/*.ts", { cwd: root })) {
    if (file.endsWith(".test.ts")) continue;
    const text = readFileSync(join(root, file), "utf8");
    const code = text.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " "));
    const pattern = /(?:^|[\s;}])(?:from|import)\s*\(?\s*"([^"]+)"/g;
    for (const match of code.matchAll(pattern)) {
      const before = code.slice(0, match.index + 1);
      const lineStart = code.lastIndexOf("\n", match.index) + 1;
      if (/^\s*\/\//.test(code.slice(lineStart, match.index + match[0].length))) continue;
      found.push({ file, line: before.split("\n").length, specifier: match[1] ?? "" });
    }
  }
  return found;
}

/** What is wrong with `imports`, one sentence each. */
export function violations(imports: readonly Import[]): string[] {
  const problems: string[] = [];
  for (const { file, line, specifier } of imports) {
    const floor = file.includes("/") ? file.slice(0, file.indexOf("/")) : undefined;
    const at = `${file}:${line}`;
    if (floor === undefined) continue;
    const allowed = floors[floor];
    if (allowed === undefined) {
      problems.push(`${at}: the folder ${floor} is no floor; add it to the table in ARCHITECTURE.md and here`);
    } else if (specifier.startsWith("node:")) {
      if (browserSafe.includes(floor))
        problems.push(`${at}: ${floor} runs in a browser and may not import ${specifier}`);
    } else if (specifier.startsWith(".")) {
      const target = relative(".", join(dirname(file), specifier)).split("/")[0] ?? "";
      if (target !== floor && !allowed.includes(target)) problems.push(`${at}: ${floor} may not import ${target}`);
    } else if (!(packagesOf[floor] ?? []).includes(specifier)) {
      problems.push(`${at}: ${floor} may not import the package ${specifier}`);
    }
  }
  return problems;
}
