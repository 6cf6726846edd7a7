// ring3 serve pci: a real function behind rules. Its user needs the socket and nothing else, and harms nobody with it.
import type { MediationOptions } from "ring3/mediation";
import type { RegisterGroup } from "ring3/pci";
import { type Command, command } from "../../command.ts";
import { OPEN_OPTIONS, openFunction } from "../../open-function.ts";
import {
  namedCapabilities,
  parseBarRule,
  parseTraps,
  RULE_SET_NAMES,
  type RuleSetName,
} from "../../serve/mediation-options.ts";
import { SERVER_OPTIONS, serverSettings, socketPath } from "../../serve/server-options.ts";
import { UsageError } from "../../usage-error.ts";

// A real device's state stays in it: there is nothing to keep or to move.
const { state: _state, "keep-state": _keepState, ...SOCKET_OPTIONS } = SERVER_OPTIONS;

export const pci: Command = command({
  summary: "serve a real function behind rules, to one user at a time",
  description:
    "Opens the function and shows whoever connects a virtual one: config space by a rule set (docs/mediation-rules.md), " +
    "BARs, interrupts, and DMA to the user's own memory only. The function is reset before and after each user. What " +
    "became of a list of attacks is in docs/security.md.",
  operands: [{ name: "ADDRESS", description: "the function, as 0000:01:00.0, 01:00.0 or vfio-user:PATH" }],
  options: {
    ...SOCKET_OPTIONS,
    backend: OPEN_OPTIONS.backend,
    rules: {
      kind: "choice",
      choices: RULE_SET_NAMES,
      initial: "strict",
      description: "what of config space users see and write",
    },
    hide: { kind: "texts", value: "NAME", description: "a capability that users do not see, as AER, VPD, MSI-X" },
    trap: {
      kind: "texts",
      value: "BAR|all",
      description: "a BAR of which no page is mapped, so that a trace has every access: bar0, or all",
    },
    range: {
      kind: "texts",
      value: "PLACE=ACCESS",
      description:
        "bar0+0x1000+0x100=read-only: bytes from an offset on that are read-only, hidden, trapped, or limited:N (writes a second)",
    },
    "lock-limit": {
      kind: "integer",
      value: "BYTES",
      minimum: 4096n,
      description: "memory that a user may have locked for DMA (default: as much as this process may)",
    },
    maps: {
      kind: "integer",
      value: "N",
      minimum: 1n,
      maximum: 65_535n,
      initial: 65_535n,
      description: "mappings that a user may have",
    },
    "allow-without-reset": {
      kind: "flag",
      description: "serve a function that cannot be reset alone: its next user finds what the one before left",
    },
  },
  examples: [
    {
      command: "ring3 serve pci 01:00.0 --socket /run/ring3/disk.sock --mode 0660 --owner :disk-users",
      text: "one user after another has the disk",
    },
    {
      command: "ring3 serve pci 01:00.0 --socket /tmp/disk.sock --trap all --trace disk.jsonl",
      text: "see every access that a guest's driver makes",
    },
  ],
  run: async ({ operands, options }, context) => {
    const [address = ""] = operands;
    const path = socketPath(options.socket);
    const settings = await serverSettings({ ...options, state: undefined, "keep-state": false }, context);
    const ranges = options.range.map(parseBarRule);
    const trap = parseTraps(options.trap);
    const hide = await hiddenGroups(options.hide);
    const opening = { backend: options.backend };
    await using real = await openFunction(address, opening, context);
    const [mediation, { ruleSet }, { serveFunctions }] = await Promise.all([
      import("ring3/mediation"),
      import("../../serve/rule-sets.ts"),
      import("../../serve/serve-functions.ts"),
    ]);
    const lockLimit = options["lock-limit"];
    const mediated: MediationOptions = {
      name: address,
      rules: ruleSet(options.rules as RuleSetName),
      hide,
      trap,
      ranges,
      maps: Number(options.maps),
      ...(lockLimit === undefined ? {} : { lockedBytes: Number(lockLimit) }),
      withoutReset: options["allow-without-reset"] ? "allow" : "refuse",
    };
    await using fn = await mediation.mediate(real, mediated);
    const summary = `behind the rules of ${options.rules}`;
    await serveFunctions({ device: `pci ${address}`, summary, functions: [{ fn, path }] }, settings, context);
  },
});

/** Capabilities by name. */
async function hiddenGroups(names: readonly string[]): Promise<readonly RegisterGroup[]> {
  if (names.length === 0) return [];
  const { capabilityGroups } = await import("ring3/pci");
  return names.flatMap((name) =>
    namedCapabilities(name, capabilityGroups, (known) => {
      throw new UsageError(`--hide ${name}: no capability has that name; there are ${known}`);
    }),
  );
}
