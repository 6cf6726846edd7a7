// ring3 doctor: what keeps a driver in user space from working, and the command that mends it.
import type { Diagnosis, Finding, Severity } from "ring3/host";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import { ExitCode } from "../exit-codes.ts";
import { openFunction } from "../open-function.ts";
import { columns, wrap } from "../text.ts";
import { UsageError } from "../usage-error.ts";
import { chosenUser } from "./bind.ts";

export const doctor: Command = command({
  summary: "find what keeps a driver from working, from the firmware to the first DMA",
  description:
    "Reads only, and needs no privilege: what could not be seen is said. Each finding names its evidence, what it means and " +
    "the command that mends it. With --dma the functions are opened, which resets them, and memory is mapped for DMA. Exit " +
    "status: 0 fine (notes may remain), 6 warnings, 7 faults.",
  operands: [
    {
      name: "ADDRESS",
      description: "functions, as 0000:01:00.0 or 01:00.0 (default: all that are bound to VFIO)",
      variadic: true,
      optional: true,
    },
  ],
  options: {
    user: { kind: "text", short: "u", value: "USER", description: "for whom (default: who calls, or who called sudo)" },
    dma: { kind: "flag", description: "open each function, which resets it, and map memory for DMA" },
    memory: {
      kind: "integer",
      value: "BYTES",
      minimum: 1n,
      maximum: 1n << 50n,
      description: "DMA memory that the driver will map (default 4M)",
    },
    all: { kind: "flag", short: "a", description: "show the evidence of what is fine as well" },
  },
  examples: [
    { command: "ring3 doctor", text: "the machine, and what is bound" },
    { command: "ring3 doctor 01:00.0", text: "why a driver for it does not start" },
    { command: "ring3 doctor 01:00.0 --dma", text: "prove that it opens and maps memory" },
    { command: "sudo ring3 doctor 01:00.0 --memory 8G", text: "for a guest of 8 GiB, seeing all processes" },
    { command: "ring3 doctor --json | jq -r '.findings[].remedies[0].command // empty'", text: "what to run" },
  ],
  run: async ({ operands, options }, context) => {
    const [host, { machine }] = await Promise.all([import("ring3/host"), import("../machine.ts")]);
    const here = machine(context);
    const word = chosenUser(options.user, context);
    const user = word === undefined ? host.currentUser(here.paths) : host.lookUpUser(word, here.paths);
    if (options.dma && context.root !== "/")
      throw new UsageError("--dma opens functions, and --root shows those of another machine");
    const dmaBytes = options.memory === undefined ? undefined : Number(options.memory);
    let diagnosis = await host.examine({ addresses: operands, user, dmaBytes }, here);
    if (options.dma) {
      for (const address of diagnosis.addresses) {
        diagnosis = host.withFindings(diagnosis, await tryOpen(address, context));
      }
    }
    context.exitCode = { fine: ExitCode.OK, warnings: ExitCode.WARNINGS, failures: ExitCode.FAULTS }[diagnosis.verdict];
    context.result({ schemaVersion: 1, ...diagnosis }, () => render(diagnosis, options.all, context));
  },
});

async function tryOpen(address: string, context: Context): Promise<readonly Finding[]> {
  const { examineOpen, examineRefusal } = await import("ring3/host");
  try {
    await using fn = await openFunction(address, { backend: "auto" }, context);
    return examineOpen(address, fn);
  } catch (error) {
    context.signal.throwIfAborted();
    return examineRefusal(address, error);
  }
}

const WORDS: Readonly<Record<Severity, string>> = {
  fine: "fine",
  note: "note",
  unseen: "unseen",
  warning: "WARNING",
  failure: "FAULT",
};
const TEXT_WIDTH = 100;
const INDENT = 9;

function render(diagnosis: Diagnosis, all: boolean, context: Context): string {
  const { findings, user } = diagnosis;
  const name = user.name ?? `uid ${user.uid}`;
  const parts = [undefined, ...diagnosis.addresses].map((address) => {
    const own = findings.filter((finding) => finding.address === address);
    const heading = context.style.bold(address === undefined ? `This machine, for ${name}` : `${address}, for ${name}`);
    return [heading, ...own.map((finding) => describe(finding, all, context))].join("\n");
  });
  return `${parts.join("\n\n")}\n\n${verdict(diagnosis, context)}`;
}

function describe(finding: Finding, all: boolean, { style }: Context): string {
  const { severity, summary, evidence, consequence, remedies } = finding;
  const line = `${paint(severity, style)(WORDS[severity].padEnd(INDENT - 2))}  ${summary}`;
  const wrong = severity === "warning" || severity === "failure";
  if (!wrong && !all) return severity === "note" && consequence !== undefined ? `${line}: ${consequence}` : line;
  const rows: string[][] = [];
  for (const { source, text } of evidence) rows.push([rows.length === 0 ? "seen " : "", `${source}: ${text}`]);
  if (consequence !== undefined) {
    for (const [index, text] of wrap(consequence, TEXT_WIDTH).split("\n").entries())
      rows.push([index === 0 ? "means" : "", text]);
  }
  for (const [index, { text, command: remedy }] of remedies.entries()) {
    rows.push([
      index === 0 ? "mend" : "or",
      remedy === undefined ? text : `${style.bold(remedy)}  ${style.dim(`# ${text}`)}`,
    ]);
  }
  return `${line}  ${style.dim(`[${finding.id}]`)}\n${columns(rows, { indent: INDENT })}`;
}

function paint(severity: Severity, style: Context["style"]): (text: string) => string {
  switch (severity) {
    case "fine":
      return (text) => style.green(text);
    case "warning":
      return (text) => style.yellow(text);
    case "failure":
      return (text) => style.red(text);
    default:
      return (text) => style.dim(text);
  }
}

function verdict({ findings, verdict: judged }: Diagnosis, { style }: Context): string {
  const count = (severity: Severity): number => findings.filter((finding) => finding.severity === severity).length;
  const amount = (number: number, word: string): string => `${number} ${word}${number === 1 ? "" : "s"}`;
  const text = {
    fine: style.green("All is well"),
    warnings: style.yellow("It works, with warnings"),
    failures: style.red("It will not work yet"),
  };
  const rest = [
    ...(count("failure") > 0 ? [amount(count("failure"), "fault")] : []),
    ...(count("warning") > 0 ? [amount(count("warning"), "warning")] : []),
    `${count("fine")} checks fine`,
    ...(count("unseen") > 0 ? [`${count("unseen")} unseen (sudo sees more)`] : []),
  ];
  return `${text[judged]}: ${rest.join(", ")}.`;
}
