// ring3 man: the manual, made from the command table.
import { type Command, command } from "../command.ts";
import { UsageError } from "../usage-error.ts";

export const man: Command = command({
  summary: "show the manual of ring3 or of one of its commands",
  description: "The published package has the same pages for man: man ring3, man ring3-lspci.",
  operands: [
    {
      name: "COMMAND",
      description: "the command, as lspci or nvme read; without one ring3 itself",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    roff: { kind: "flag", description: "print what man formats" },
    write: { kind: "text", value: "DIR", description: "write every page to DIR as ring3.1, ring3-lspci.1, ..." },
  },
  examples: [
    { command: "ring3 man nvme read", text: "one command" },
    { command: "ring3 man --roff lspci | man -l -", text: "as man shows it" },
    { command: "ring3 man --write /usr/local/share/man/man1", text: "for man itself" },
  ],
  run: async ({ operands, options }, context) => {
    const [{ manualPages }, { roffPage, textPage }, { COMMANDS, SUMMARY, version }] = await Promise.all([
      import("../manual/page.ts"),
      import("../manual/roff.ts"),
      import("../run.ts"),
    ]);
    const pages = await manualPages(COMMANDS, SUMMARY);
    if (options.write !== undefined) {
      if (operands.length > 0) throw new UsageError("--write writes every page: leave COMMAND out");
      const { mkdirSync, writeFileSync } = await import("node:fs");
      const directory = options.write;
      mkdirSync(directory, { recursive: true });
      const files = pages.map((page) => {
        const file = `${directory}/${page.name}.1`;
        writeFileSync(file, roffPage(page, version()));
        return file;
      });
      return context.result({ files }, () => `wrote ${files.length} pages to ${directory}`);
    }
    const name = ["ring3", ...operands].join("-");
    const page = pages.find((candidate) => candidate.name === name);
    if (page === undefined) throw new UsageError(`there is no page ${name}: ring3 --help lists the commands`);
    context.result(page, () => (options.roff ? roffPage(page, version()) : textPage(page, context.style)));
  },
});
