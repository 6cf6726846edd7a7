// ring3 completion: scripts that let a shell complete ring3's words, and what they ask.
import { type Command, command } from "../command.ts";
import { UsageError } from "../usage-error.ts";

export const completion: Command = command({
  summary: "print the script that lets your shell complete ring3's words",
  description:
    "Commands, options and their values, addresses of functions, sockets behind vfio-user:, and the names of registers and " +
    "fields. The scripts ask ring3 completion words, which prints a word to offer and its meaning on each line.",
  operands: [
    { name: "SHELL", description: "bash, zsh or fish", choices: ["bash", "zsh", "fish", "words"] },
    {
      name: "TEXT",
      description: "behind words: the words of the line so far, behind --",
      variadic: true,
      optional: true,
    },
  ],
  options: {},
  examples: [
    { command: "ring3 completion bash > ~/.local/share/bash-completion/completions/ring3", text: "for every new bash" },
    { command: "ring3 completion fish > ~/.config/fish/completions/ring3.fish", text: "for fish" },
    { command: "ring3 completion words -- setpci 01:00.0 PM.", text: "what a shell would be told" },
  ],
  run: async ({ operands }, context) => {
    const [shell = "", ...words] = operands;
    if (shell !== "words") {
      if (words.length > 0) throw new UsageError(`"${words[0]}" is one argument too many`);
      const { SHELL_SCRIPTS } = await import("../completion/shell-scripts.ts");
      return context.result({ shell, script: SHELL_SCRIPTS[shell] }, () => SHELL_SCRIPTS[shell] ?? "");
    }
    const [{ completeWords }, { machineCandidates }, { COMMANDS }] = await Promise.all([
      import("../completion/complete-words.ts"),
      import("../completion/candidates.ts"),
      import("../run.ts"),
    ]);
    const candidates = await completeWords(words, COMMANDS, machineCandidates(context.root));
    context.result({ candidates }, () =>
      candidates.map(({ word, text }) => (text === undefined ? word : `${word}\t${text}`)).join("\n"),
    );
  },
});
