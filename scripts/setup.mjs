// Set-up that runs on any Node >= 20 before every npm script: installs the locked packages (and with them Node 24) once.
// Plain JavaScript, because the Node that runs it may not strip types.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const stamp = join(root, "node_modules", ".ring3-setup");

/** What decides whether the installed packages are the locked ones. */
function wanted() {
  const hash = createHash("sha256");
  for (const file of ["package-lock.json", "package.json"]) hash.update(readFileSync(join(root, file)));
  hash.update(`${process.platform}-${process.arch}`);
  return hash.digest("hex");
}

function fail(message) {
  console.error(`set-up: ${message}`);
  process.exit(1);
}

if (process.platform !== "linux") fail(`ring3 drives PCI functions through Linux; this is ${process.platform}.`);

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted()) {
  console.log("set-up: installing the locked npm packages, Node 24 among them (about 250 MB, cached by npm; once)");
  try {
    execFileSync("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], {
      cwd: root,
      stdio: ["ignore", "ignore", "inherit"],
    });
  } catch {
    fail("npm ci failed; its message stands above.");
  }
  writeFileSync(stamp, wanted());
}

const node = join(root, "node_modules", ".bin", "node");
const version = existsSync(node) ? execFileSync(node, ["--version"], { encoding: "utf8" }).trim() : process.version;
if (Number.parseInt(version.slice(1), 10) < 24) {
  fail(`Node >= 24 is needed to run the sources, found ${version}; npm brings one for x64 and arm64 Linux only.`);
}
