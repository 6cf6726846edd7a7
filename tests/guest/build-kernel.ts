// `npm run guest:kernel`: builds the guest's small kernel with IOMMUFD from Debian's kernel source, as tinyconfig plus
// kernel.fragment. The build directory stays until the build is done, so a second run goes on where the first ended.
// `--configure` stops after the configuration and prints where it is.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { cacheDirectory, lock } from "./cache.ts";
import { builtKernelDirectory } from "./kernels.ts";
import { GROUPS, packageRoot } from "./packages.ts";
import { debianTool } from "./tools.ts";

type Environment = Record<string, string | undefined>;

const say = (line: string): void => console.log(line);
const build = join(cacheDirectory(), "kernel-build");
const tree = join(build, "linux");

const configureOnly = process.argv.includes("--configure");
await using _held = await lock("kernel-build", () => say("waiting for another build to end"));
if (existsSync(builtKernelDirectory()) && !configureOnly) {
  say(`there is a kernel already: ${builtKernelDirectory()} (remove it to build anew)`);
} else {
  const environment = await tools();
  await unpack();
  await configure(environment);
  if (configureOnly) say(`configured: ${join(tree, ".config")}`);
  else await compile(environment);
}

/** The build's environment: flex, bison, bc and libelf come from packages where the machine lacks them. */
async function tools(): Promise<Environment> {
  for (const needed of ["gcc", "make", "ld", "tar"]) {
    if (!onPath(needed)) throw new Error(`building a kernel needs ${needed}: install build-essential`);
  }
  if (["flex", "bison", "bc", "m4"].every(onPath) && existsSync("/usr/include/gelf.h")) return process.env;
  const root = await packageRoot(GROUPS.kernelTools, say);
  const libraries = join(root, "usr/lib/x86_64-linux-gnu");
  return {
    ...process.env,
    PATH: `${process.env["PATH"]}:${join(root, "usr/bin")}`,
    BISON_PKGDATADIR: join(root, "usr/share/bison"),
    M4: onPath("m4") ? "m4" : join(root, "usr/bin/m4"),
    LD_LIBRARY_PATH: libraries,
    LIBRARY_PATH: libraries,
    C_INCLUDE_PATH: join(root, "usr/include"),
  };
}

function onPath(program: string): boolean {
  return (process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, program)));
}

/** Unpacks the source once. */
async function unpack(): Promise<void> {
  if (existsSync(tree)) return;
  const source = join(await packageRoot(GROUPS.kernelSource, say), "usr/src");
  const archive = readdirSync(source).find((name) => /^linux-source-.*\.tar\.xz$/.test(name));
  if (archive === undefined) throw new Error(`no kernel source in ${source}`);
  const { program, args } = debianTool(await packageRoot(GROUPS.qemu, say), "xz");
  await mkdir(build, { recursive: true });
  const temporary = await mkdtemp(join(build, "part-"));
  say(`unpacking ${archive}`);
  const pipe = 'out=$1; archive=$2; shift 2; "$@" -dc "$archive" | tar -x -C "$out" --strip-components=1';
  await run("sh", ["-ec", pipe, "sh", temporary, join(source, archive), program, ...args], process.env);
  await rename(temporary, tree);
}

async function configure(environment: Environment): Promise<void> {
  const fragment = join(import.meta.dirname, "kernel.fragment");
  say("configuring");
  await run("make", ["-s", "tinyconfig"], environment);
  // It prints every option it changes, which is all of them.
  await run("sh", ["-c", 'scripts/kconfig/merge_config.sh -m .config "$1" > merge.log', "sh", fragment], environment);
  await run("make", ["-s", "olddefconfig"], environment);
}

async function compile(environment: Environment): Promise<void> {
  const jobs = availableParallelism();
  say(`compiling with ${jobs} jobs: 15 to 30 minutes on two processors`);
  await run("make", ["-s", `-j${jobs}`, "bzImage", "modules"], environment);
  const temporary = await mkdtemp(join(cacheDirectory(), "kernel-part-"));
  await mkdir(join(temporary, "modules"));
  await copyFile(join(tree, "arch/x86/boot/bzImage"), join(temporary, "bzImage"));
  await copyFile(join(tree, ".config"), join(temporary, "kernel.config"));
  const modules = readdirSync(tree, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".ko"));
  for (const path of modules) await copyFile(join(tree, path), join(temporary, "modules", basename(path)));
  await rename(temporary, builtKernelDirectory());
  await rm(build, { recursive: true, force: true });
  say(`built ${builtKernelDirectory()} with ${modules.length} modules`);
}

async function run(program: string, args: readonly string[], environment: Environment): Promise<void> {
  const child = spawn(program, args, {
    cwd: existsSync(tree) ? tree : build,
    env: { ...environment, KBUILD_BUILD_USER: "ring3", KBUILD_BUILD_HOST: "guest" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${signal ?? code}`);
}
