// How a word gets onto the kernel's command line: the exact command for the boot loader that this machine has.
import { join } from "node:path";
import type { HostPaths } from "../paths.ts";
import { present, readText } from "../sysfs.ts";
import { byHand, type Remedy } from "./finding.ts";

/** The words that the kernel was booted with. */
export function bootWords(paths: HostPaths): string[] {
  return (readText(join(paths.procRoot, "cmdline")) ?? "").split(/\s+/).filter((word) => word !== "");
}

/** Adds `word` at the next boot, in the place of `instead` where that is there now. */
export function bootWith(paths: HostPaths, word: string, instead?: string): Remedy {
  const replaced = instead === undefined ? "" : ` in the place of ${instead}`;
  const text = `boot with ${word}${replaced}`;
  const command = loaderCommand(paths, word, instead);
  if (command !== undefined) return { text, command: `${command} && sudo reboot`, needsReboot: true };
  return byHand(`add ${word} to the kernel's command line${replaced}, where the boot loader has it`, true);
}

/** Takes `word` away at the next boot. */
export function bootWithout(paths: HostPaths, word: string): Remedy {
  const command = loaderCommand(paths, undefined, word);
  const text = `boot without ${word}`;
  if (command !== undefined) return { text, command: `${command} && sudo reboot`, needsReboot: true };
  return byHand(`take ${word} from the kernel's command line, where the boot loader has it`, true);
}

function loaderCommand(paths: HostPaths, word: string | undefined, former: string | undefined): string | undefined {
  const has = (path: string): boolean => present(join(paths.etcRoot, path));
  if (has("grub2.cfg") || has("grub2-efi.cfg")) {
    const words = [former === undefined ? "" : `--remove-args=${former}`, word === undefined ? "" : `--args=${word}`];
    return ["sudo grubby --update-kernel=ALL", ...words.filter((part) => part !== "")].join(" ");
  }
  const edit = (file: string, at: string): string => {
    const steps = [
      ...(former === undefined ? [] : [`-e 's/ *\\b${quoteForSed(former)}\\b//g'`]),
      ...(word === undefined ? [] : [`-e '${at}${quoteForSed(word)}${at.endsWith("&") ? " " : ""}/'`]),
    ];
    return `sudo sed -i ${steps.join(" ")} ${file}`;
  };
  if (has("default/grub")) return `${edit("/etc/default/grub", 's/^GRUB_CMDLINE_LINUX="/&')} && sudo update-grub`;
  if (has("kernel/cmdline")) return `${edit("/etc/kernel/cmdline", "s/$/ ")} && sudo kernel-install add-all`;
  return undefined;
}

/** Characters that mean something in a pattern or a replacement of sed. */
function quoteForSed(text: string): string {
  return text.replaceAll(/[.*[\]^$/\\&]/g, String.raw`\$&`);
}
