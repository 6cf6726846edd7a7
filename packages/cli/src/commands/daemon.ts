// ring3d: owns real functions and serves each, behind rules, to one unprivileged user after another.
import { readFileSync } from "node:fs";
import { type Command, command } from "../command.ts";
import type { Context } from "../context.ts";
import type { Configuration } from "../ring3d/configuration.ts";

const DEFAULT_FILE = "/etc/ring3/ring3d.yaml";

export const daemon: Command = command({
  summary: "the service ring3d: real functions behind rules, for unprivileged users",
  description:
    "Takes the functions of its configuration from their drivers, and serves each at a socket: its user needs nothing but " +
    "that. SIGHUP reads the configuration again, users stay; SIGTERM and Ctrl-C give every function back. What a service that " +
    "was killed had taken, the next one takes over or gives back. ring3 ctl talks to it; docs/ring3d.md explains it. The program ring3d is this command.",
  operands: [],
  options: {
    config: { kind: "text", short: "c", value: "FILE", description: `the configuration (default ${DEFAULT_FILE})` },
    check: { kind: "flag", description: "check the configuration, and end" },
    explain: { kind: "flag", description: "say what the configuration will do on this machine, and end" },
    schema: { kind: "flag", description: "print the JSON schema of the configuration, and end" },
    "give-back": { kind: "flag", description: "give back what a service that was killed had taken, and end" },
  },
  examples: [
    { command: "sudo ring3 daemon", text: `serve what ${DEFAULT_FILE} says` },
    { command: "ring3 daemon --config ./lab.yaml --explain", text: "what that would do here" },
    { command: "ring3 daemon --check", text: "before a change takes effect" },
  ],
  run: async ({ options }, context) => {
    const { configurationSchema } = await import("../ring3d/configuration.ts");
    if (options.schema)
      return context.result(configurationSchema(), () => JSON.stringify(configurationSchema(), null, 2));
    if (options["give-back"]) return await giveBack(context);
    const path = options.config ?? DEFAULT_FILE;
    const configuration = await readConfiguration(path);
    if (options.check || options.explain) {
      const { explainConfiguration } = await import("../ring3d/explanation.ts");
      const explained = explainConfiguration(configuration, options.explain ? context : undefined);
      return context.result(explained.value, () => (options.explain ? explained.text : `${path}: sound`));
    }
    const { runService } = await import("../ring3d/run-service.ts");
    await runService(configuration, () => readConfiguration(path), context);
  },
});

async function readConfiguration(path: string): Promise<Configuration> {
  const [{ parseConfiguration }, { machineDirectory }] = await Promise.all([
    import("../ring3d/configuration.ts"),
    import("../ring3d/user-set.ts"),
  ]);
  return parseConfiguration(readFileSync(path, "utf8"), path, machineDirectory);
}

async function giveBack(context: Context): Promise<void> {
  const { machineHardware } = await import("../ring3d/run-service.ts");
  const hardware = machineHardware(context);
  const returned: string[] = [];
  for (const address of hardware.taken()) if (await hardware.giveBack(address)) returned.push(address);
  context.result({ returned }, () =>
    returned.length === 0 ? "there was nothing to give back" : `given back: ${returned.join(", ")}`,
  );
}
