// Keeps documentation true: every ```ts block of the Markdown files and every TSDoc @example is type-checked, and those
// marked `run` (```ts run, @example run), which need no device, are executed too. Each may use `fn`, an open function.
// Guides, whose blocks build on each other, are run as a whole: see guides.ts.
import { execFileSync, spawnSync } from "node:child_process";
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { guideFiles, runGuide } from "./guides.ts";

const root = join(import.meta.dirname, "..");

interface Example {
  readonly from: string;
  readonly line: number;
  readonly code: string;
  readonly run: boolean;
}

function fromMarkdown(file: string): Example[] {
  const found: Example[] = [];
  const text = readFileSync(join(root, file), "utf8");
  for (const match of text.matchAll(/^```ts( run)?\n([\s\S]*?)^```$/gm)) {
    const line = text.slice(0, match.index).split("\n").length;
    found.push({ from: file, line, code: match[2] ?? "", run: match[1] !== undefined });
  }
  return found;
}

function fromSource(file: string): Example[] {
  const found: Example[] = [];
  const text = readFileSync(join(root, file), "utf8");
  for (const comment of text.matchAll(/\/\*\*[\s\S]*?\*\//g)) {
    const body = comment[0].replace(/^\s*\/?\*+\/?[ ]?/gm, "");
    for (const match of body.matchAll(/@example( run)?\n(?:```ts\n)?([\s\S]*?)(?:```|\n@|$(?![\s\S]))/g)) {
      const line = text.slice(0, comment.index).split("\n").length;
      found.push({ from: file, line, code: match[2] ?? "", run: match[1] !== undefined });
    }
  }
  return found;
}

/** Documents whose blocks build on each other. */
const GUIDES = ["first-device", "first-driver", "trace-format", "faults", "ring3d"].map((name) => `docs/${name}.md`);

/** Checks (and runs) every example and guide; returns how many of each, and throws on the first that fails. */
export function checkExamples(): { readonly checked: number; readonly run: number; readonly guideSteps: number } {
  const examples = [
    ...globSync(["*.md", "docs/**/*.md"], { cwd: root }).sort().flatMap(fromMarkdown),
    ...globSync("packages/*/src/**/*.ts", { cwd: root }).sort().flatMap(fromSource),
  ];
  const folder = join(root, "packages", ".examples");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  try {
    const files = examples.map((example, index) => {
      const file = join(folder, `example-${index}.ts`);
      writeFileSync(file, `// ${example.from}:${example.line}\n${example.code}\nexport {};\n`);
      return file;
    });
    for (const [index, guide] of GUIDES.entries()) {
      for (const [name, code] of guideFiles(readFileSync(join(root, guide), "utf8"))) {
        const file = join(folder, `guide-${index}`, name);
        mkdirSync(dirname(file), { recursive: true });
        writeFileSync(file, code);
      }
    }
    writeFileSync(join(folder, "scene.d.ts"), 'declare const fn: import("ring3").PciFunction;\n');
    const config = join(folder, "tsconfig.json");
    writeFileSync(
      config,
      JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions: {
          noUnusedLocals: false,
          noUnusedParameters: false,
          isolatedDeclarations: false,
          declaration: false,
        },
        include: ["**/*.ts"],
      }),
    );
    const check = spawnSync(join(root, "node_modules/.bin/tsc"), ["-p", config], { encoding: "utf8" });
    if (check.status !== 0) {
      const named = check.stdout
        .replaceAll(/\S*guide-(\d+)\//g, (_, index: string) => `${GUIDES[Number(index)]}: `)
        .replace(/\S*example-(\d+)\.ts/g, (_, index: string) => {
          const example = examples[Number(index)];
          return `${example?.from}:${example?.line} (example ${index})`;
        });
      throw new Error(`documentation examples do not type-check:\n${named}`);
    }
    let run = 0;
    for (const [index, example] of examples.entries()) {
      if (!example.run) continue;
      execFileSync(process.execPath, [files[index] ?? ""], { stdio: ["ignore", "ignore", "inherit"], timeout: 60_000 });
      run++;
    }
    let guideSteps = 0;
    for (const guide of GUIDES) guideSteps += runGuide(guide);
    return { checked: examples.length, run, guideSteps };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
