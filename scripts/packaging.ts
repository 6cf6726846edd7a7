// Shows that what would be published works: publint on each dist, then the packed tarballs installed side by side, every
// subpath imported by plain Node, and the command started.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPackage } from "./build.ts";

const root = join(import.meta.dirname, "..");

/** Builds both packages, lints them and puts them below `place` as an installer would; returns its `node_modules`. */
export async function installPackages(place: string): Promise<string> {
  const dists = { ring3: await buildPackage("ring3"), cli: await buildPackage("cli") };
  for (const dist of Object.values(dists)) {
    execFileSync(join(root, "node_modules/.bin/publint"), [dist, "--strict"], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    execFileSync("npm", ["pack", "--silent", "--pack-destination", place], {
      cwd: dist,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  const modules = join(place, "node_modules");
  const unpack = (tarball: RegExp, target: string): void => {
    const file = readdirSync(place).find((name) => tarball.test(name));
    if (file === undefined) throw new Error(`npm pack made no ${tarball}`);
    mkdirSync(join(modules, target), { recursive: true });
    execFileSync("tar", ["-xzf", join(place, file), "-C", join(modules, target), "--strip-components=1"]);
  };
  unpack(/^ring3-\d/, "ring3");
  unpack(/^ring3-cli-/, "@ring3/cli");
  for (const name of ["koffi", "yaml", "@koromix"])
    cpSync(join(root, "node_modules", name), join(modules, name), { recursive: true });
  return modules;
}

/** Tries both packages as an installer would get them; returns the subpaths imported. */
export async function checkPackaging(): Promise<string[]> {
  const place = mkdtempSync(join(tmpdir(), "ring3-pack-"));
  try {
    const modules = await installPackages(place);
    const manifest = JSON.parse(readFileSync(join(modules, "ring3/package.json"), "utf8")) as {
      exports: Record<string, unknown>;
    };
    const subpaths = Object.keys(manifest.exports).map((name) => `ring3${name.slice(1)}`);
    const imports = subpaths.map(
      (name) => `if (Object.keys(await import("${name}")).length === 0) throw new Error("${name} is empty");`,
    );
    execFileSync(process.execPath, ["--input-type=module", "-e", imports.join("\n")], {
      cwd: place,
      stdio: ["ignore", "inherit", "inherit"],
    });
    const program = join(modules, "@ring3/cli/main.cjs");
    const version = execFileSync(process.execPath, [program, "--version"], { encoding: "utf8" });
    if (!/\d+\.\d+\.\d+/.test(version)) throw new Error(`ring3 --version printed ${version}`);
    // What starts most often needs no further file: each costs a start almost a millisecond.
    const alone = join(place, "alone");
    mkdirSync(alone);
    for (const file of ["main.cjs", "program.cjs", "package.json"])
      cpSync(join(modules, "@ring3/cli", file), join(alone, file));
    for (const words of [["--version"], ["ls"]]) execFileSync(process.execPath, [join(alone, "main.cjs"), ...words]);
    await checkService(program, place);
    return subpaths;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** The service is one of the commands that lie in files of their own: it must hear the process's signals all the same. */
async function checkService(program: string, place: string): Promise<void> {
  const file = join(place, "ring3d.yaml");
  const control = join(place, "control.sock");
  writeFileSync(file, `control: ${control}\nusers-socket: ${join(place, "users.sock")}\nfunctions: {}\n`);
  const service = spawn(process.execPath, [program, "daemon", "--config", file], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const { promise: reloaded, resolve } = Promise.withResolvers<void>();
  for (const stream of [service.stdout, service.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (text.includes("ring3d is ready")) service.kill("SIGHUP");
      if (said.includes("reloaded (")) resolve();
    });
  }
  const closed = once(service, "close");
  await Promise.race([reloaded, closed]);
  if (!said.includes("reloaded (")) throw new Error(`the packed ring3d does not reload at SIGHUP:\n${said}`);
  const status = execFileSync(process.execPath, [program, "ctl", "status", "--json", "--socket", control], {
    encoding: "utf8",
  });
  const { version } = JSON.parse(status) as { version: string };
  if (!/^\d+\.\d+\.\d+/.test(version)) throw new Error(`the packed ring3d says that its version is ${version}`);
  service.kill("SIGTERM");
  const [code] = (await closed) as [number | null];
  if (code !== 0) throw new Error(`the packed ring3d ended with ${code}:\n${said}`);
}
