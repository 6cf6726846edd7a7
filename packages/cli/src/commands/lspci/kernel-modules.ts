// Which kernel modules could drive a function: modules.alias of the running kernel has patterns for the names that the kernel
// gives functions (`pci:v00008086d*sv*...`), with one vendor in most of them.
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { join, matchesGlob } from "node:path";

interface Alias {
  readonly pattern: string;
  readonly module: string;
}

/** Modules by modalias, in the order of the file; none where it cannot be read. */
export function moduleFinder(root: string): (modalias: string) => readonly string[] {
  let aliases: readonly Alias[] | undefined;
  return (modalias) => {
    if (!modalias.startsWith("pci:")) return [];
    aliases ??= readAliases(join(root, "lib/modules", release(), "modules.alias"));
    const found = aliases.filter(({ pattern }) => matchesGlob(modalias, pattern)).map(({ module }) => module);
    return found.filter((module, index) => module !== found[index - 1]);
  };
}

function readAliases(file: string): readonly Alias[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    return [];
  }
  return text.split("\n").flatMap((line) => {
    const [word, pattern, module] = line.split(" ");
    return word === "alias" && pattern?.startsWith("pci:") && module !== undefined ? [{ pattern, module }] : [];
  });
}
