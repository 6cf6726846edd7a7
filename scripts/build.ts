// Emits each package to its `dist/` with the package.json that is published: the same exports, pointing at what was emitted.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { buildSync } from "esbuild";

const root = join(import.meta.dirname, "..");
const tsc = join(root, "node_modules/.bin/tsc");

type Manifest = Record<string, unknown> & {
  name: string;
  private?: boolean;
  exports?: Record<string, string>;
  bin?: Record<string, string>;
};

const emitted = (source: string, ending: string): string => source.replace(/^\.\/src\//, "./").replace(/\.ts$/, ending);

/** The published manifest: source paths become emitted ones, and the guard against publishing the sources goes. */
export function publishedManifest(source: Manifest): Manifest {
  const { private: _guard, exports, bin, ...rest } = source;
  const manifest: Manifest = { ...rest, name: source.name };
  if (exports) {
    manifest["exports" as const] = Object.fromEntries(
      Object.entries(exports).map(([name, path]) => [
        name,
        { types: emitted(path, ".d.ts"), default: emitted(path, ".js") },
      ]),
    ) as never;
  }
  if (bin) manifest.bin = Object.fromEntries(Object.entries(bin).map(([name, path]) => [name, emitted(path, ".js")]));
  return manifest;
}

/**
 * Joins the emitted modules into one file per subpath and what they share. Node resolves each module's path in JavaScript,
 * and a hundred of them make V8 compile that code with its optimising compiler: some MiB of every driver process.
 */
function joinModules(dist: string, sources: readonly string[]): void {
  const entries = sources.map((path) => join(dist, emitted(path, ".js")));
  const { metafile } = buildSync({
    entryPoints: entries,
    outdir: dist,
    outbase: dist,
    allowOverwrite: true,
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: "node24",
    packages: "external",
    chunkNames: "shared/[hash]",
    metafile: true,
    logLevel: "warning",
  });
  const kept = new Set(Object.keys(metafile.outputs).map((path) => resolve(path)));
  for (const file of globSync("**/*.js", { cwd: dist })) if (!kept.has(join(dist, file))) rmSync(join(dist, file));
}

/** Builds `packages/<name>` into its `dist/`; throws where tsc reports an error. */
export function buildPackage(name: string): string {
  const folder = join(root, "packages", name);
  const dist = join(folder, "dist");
  rmSync(dist, { recursive: true, force: true });
  const config = join(folder, "tsconfig.build.json");
  execFileSync(tsc, ["-p", config], { stdio: ["ignore", "inherit", "inherit"] });
  const source = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
  if (source.exports !== undefined) joinModules(dist, Object.values(source.exports));
  const manifest = publishedManifest(source);
  writeFileSync(join(dist, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(join(root, "LICENSE"), join(dist, "LICENSE"));
  const readme = join(folder, "README.md");
  copyFileSync(existsSync(readme) ? readme : join(root, "README.md"), join(dist, "README.md"));
  for (const path of Object.values(manifest.bin ?? {})) chmodSync(join(dist, path), 0o755);
  return dist;
}

if (import.meta.main) {
  for (const manifest of globSync("packages/*/package.json", { cwd: root }).sort()) {
    const name = dirname(manifest).split("/")[1] ?? "";
    console.log(`built ${name} into ${buildPackage(name).slice(root.length + 1)}`);
  }
}
