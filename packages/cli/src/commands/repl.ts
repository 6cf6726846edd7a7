// ring3 repl: a TypeScript prompt on an open function.
import { type Command, command } from "../command.ts";
import { OPEN_OPTIONS, openFunction } from "../open-function.ts";

export const repl: Command = command({
  summary: "a TypeScript prompt on an open function",
  description:
    "Opens the function, switches its BARs on and puts it at a prompt: fn, bar0, config and its registers by name, with " +
    "completion of registers and fields, top-level await and a history. Without a terminal what comes on stdin is run. " +
    "Ctrl-D or .exit closes the function in order. --eval runs code and ends.",
  operands: [{ name: "ADDRESS", description: "the function, as 0000:01:00.0, 01:00.0 or vfio-user:PATH" }],
  options: {
    ...OPEN_OPTIONS,
    eval: { kind: "texts", short: "e", value: "CODE", description: "run CODE, print what it gives, and end" },
    "no-history": { kind: "flag", description: "neither read nor write the history" },
  },
  examples: [
    { command: "ring3 repl 01:00.0", text: "look around; .names lists what is there" },
    { command: "ring3 repl 01:00.0 --eval header.COMMAND.read()", text: "one look, for a script" },
    { command: "ring3 repl vfio-user:/run/edu.sock -e hex(bar0.read32(0))", text: "a function that a socket serves" },
  ],
  run: async ({ operands, options }, context) => {
    const [address = ""] = operands;
    const { text } = await import("node:stream/consumers");
    const interactive = context.streams.stdin.isTTY === true && context.streams.stdout.isTTY === true;
    const code = options.eval.length > 0 || interactive ? options.eval : [await text(context.streams.stdin)];
    await using fn = await openFunction(address, options, context);
    const { promptNames } = await import("../repl/names.ts");
    const { names, help } = await promptNames(fn);
    if (code.length > 0) await (await import("../repl/run-code.ts")).runCode(code, names, context);
    else
      await (await import("../repl/prompt.ts")).prompt({ fn, names, help, history: !options["no-history"] }, context);
  },
});
