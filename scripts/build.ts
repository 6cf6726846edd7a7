// Emits each package to its `dist/` with the package.json that is published: the same exports, pointing at what was emitted.
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, existsSync, globSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { type BuildOptions, build, buildSync, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");
const tsc = join(root, "node_modules/.bin/tsc");

type Manifest = Record<string, unknown> & {
  name: string;
  private?: boolean;
  exports?: Record<string, string>;
  bin?: Record<string, string>;
};

const emitted = (source: string, ending: string): string =>
  source.replace(/^\.\/src\//, "./").replace(/\.m?ts$|\.mjs$/, ending);

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
  if (bin) manifest.bin = Object.fromEntries(Object.entries(bin).map(([name, path]) => [name, emitted(path, ".cjs")]));
  return manifest;
}

const JOINING = {
  allowOverwrite: true,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  chunkNames: "shared/[hash]",
  metafile: true,
  logLevel: "warning",
} as const satisfies BuildOptions;

/**
 * Joins the emitted modules into one file per subpath and what they share. Node resolves each module's path in JavaScript,
 * and a hundred of them make V8 compile that code with its optimising compiler: some MiB of every driver process.
 */
function joinModules(dist: string, sources: readonly string[]): void {
  const entryPoints = sources.map((path) => join(dist, emitted(path, ".js")));
  const { metafile } = buildSync({ ...JOINING, entryPoints, outdir: dist, outbase: dist, packages: "external" });
  removeOthers(dist, Object.keys(metafile.outputs));
}

/** What a program takes along of the library: parts that look at the machine and hold no state. */
const TAKEN_ALONG = /^ring3\/(?:host|pci|lspci)$/;
/** What stands in the program's own file, since most starts need no more. */
const AT_HAND = /\/(?:main|run|report-error|commands\/ls|ls\/\w[\w-]*)\.ts$/;

/**
 * Joins a program with what it uses of those parts. Its own file is CommonJS: Node loads a module of its own, `node:fs`
 * above all, with everything that it could export where an ES module imports it, and looks for each further file in
 * JavaScript. Together that takes longer than listing the machine. The other commands are ES modules that share chunks.
 * Whatever opens or serves functions stays the installed library, so that a user's own module, which imports it too, meets
 * the same classes.
 */
async function joinProgram(dist: string, folder: string, source: string): Promise<void> {
  const sources = join(folder, "src");
  const later = new Set<string>();
  const library: Plugin = {
    name: "library",
    setup: (building) => {
      building.onResolve({ filter: /^[^./]/ }, ({ path }) =>
        TAKEN_ALONG.test(path) || path.startsWith("node:") ? null : { path, external: true },
      );
      // Native calls are the library's alone: its FFI must not be loaded twice.
      building.onResolve({ filter: /\/linux\/\w+\.ts$/ }, () => ({ path: "ring3/linux", external: true }));
    },
  };
  const first: Plugin = {
    name: "first file",
    setup: (building) => {
      building.onResolve({ filter: /^(?:\.|ring3)/ }, ({ path, kind, resolveDir }) => {
        if (kind !== "dynamic-import") return null;
        if (path.startsWith("ring3")) return { path, external: true };
        const place = join(resolveDir, path);
        if (!place.startsWith(sources) || AT_HAND.test(place)) return null;
        later.add(place);
        return { path: `./${relative(sources, place).replace(/\.ts$/, ".js")}`, external: true };
      });
    },
  };
  const common = { ...JOINING, splitting: false, format: "cjs" } as const;
  const program = await build({
    ...common,
    entryPoints: [join(sources, "main.ts")],
    outfile: join(dist, "program.cjs"),
    define: { "import.meta.url": "ownUrl" },
    banner: { js: "const ownUrl = `file://${encodeURI(__filename).replaceAll(/[?#]/g, encodeURIComponent)}`;" },
    plugins: [first, library],
  });
  // What starts it stands alone, so that the program comes out of the cache that it opens.
  const start = await build({
    ...common,
    entryPoints: [join(folder, source)],
    outfile: join(dist, basename(emitted(source, ".cjs"))),
    supported: { "dynamic-import": false },
    plugins: [
      {
        name: "program",
        setup: (building) => {
          building.onResolve({ filter: /\/main\.ts$/ }, () => ({ path: "./program.cjs", external: true }));
        },
      },
    ],
  });
  const commands = await build({
    ...JOINING,
    entryPoints: [...later],
    outdir: dist,
    outbase: sources,
    plugins: [library],
  });
  removeOthers(
    dist,
    [start, program, commands].flatMap(({ metafile }) => Object.keys(metafile.outputs)),
  );
}

function removeOthers(dist: string, outputs: readonly string[]): void {
  const kept = new Set(outputs.map((path) => resolve(path)));
  for (const file of globSync("**/*.js", { cwd: dist })) if (!kept.has(join(dist, file))) rmSync(join(dist, file));
}

/** Lets the built program write its manual pages; returns their paths in the package. */
function writeManual(dist: string, program: string): string[] {
  execFileSync(process.execPath, [join(dist, program), "man", "--write", join(dist, "man")]);
  return globSync("man/*.1", { cwd: dist })
    .sort()
    .map((file) => `./${file}`);
}

/** Builds `packages/<name>` into its `dist/`; throws where tsc reports an error. */
export async function buildPackage(name: string): Promise<string> {
  const folder = join(root, "packages", name);
  const dist = join(folder, "dist");
  rmSync(dist, { recursive: true, force: true });
  const config = join(folder, "tsconfig.build.json");
  execFileSync(tsc, ["-p", config], { stdio: ["ignore", "inherit", "inherit"] });
  const source = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;
  if (source.exports !== undefined) joinModules(dist, Object.values(source.exports));
  // One program may have several names.
  for (const program of new Set(Object.values(source.bin ?? {}))) await joinProgram(dist, folder, program);
  const manifest = publishedManifest(source);
  const pages = [...new Set(Object.values(manifest.bin ?? {}))].flatMap((path) => writeManual(dist, path));
  if (pages.length > 0) manifest["man" as const] = pages;
  writeFileSync(join(dist, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
  copyFileSync(join(root, "LICENSE"), join(dist, "LICENSE"));
  const units = join(folder, "systemd");
  if (existsSync(units)) cpSync(units, join(dist, "systemd"), { recursive: true });
  const readme = join(folder, "README.md");
  copyFileSync(existsSync(readme) ? readme : join(root, "README.md"), join(dist, "README.md"));
  for (const path of Object.values(manifest.bin ?? {})) chmodSync(join(dist, path), 0o755);
  return dist;
}

if (import.meta.main) {
  for (const manifest of globSync("packages/*/package.json", { cwd: root }).sort()) {
    const name = dirname(manifest).split("/")[1] ?? "";
    console.log(`built ${name} into ${(await buildPackage(name)).slice(root.length + 1)}`);
  }
}
