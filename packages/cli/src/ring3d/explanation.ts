// What a configuration will do, said for people: which driver loses which function to whom, what its users see, and what
// stands in the way on this machine.
import { messageOf } from "ring3/binary";
import { linuxOperations, planBind, readFunction } from "ring3/host";
import type { Context } from "../context.ts";
import { machine } from "../machine.ts";
import type { Configuration, FunctionSettings } from "./configuration.ts";

interface ExplainedFunction {
  readonly name: string;
  readonly address: string;
  readonly socket: string;
  readonly users: string;
  readonly rules: string;
  /** Sentences, in the order in which things will happen. */
  readonly steps: readonly string[];
  /** What keeps it from being served, as far as it can be known now. */
  readonly obstacle: string | undefined;
}

/** `context` names the machine to look at; without it nothing of the machine is asked. */
export function explainConfiguration(
  configuration: Configuration,
  context: Context | undefined,
): { readonly value: object; readonly text: string } {
  const { path, control, controlGroup, users, metrics, audit, traces } = configuration;
  const functions = configuration.functions.map((settings) => explainFunction(settings, context));
  const text = [
    `control: ${control}, for root${controlGroup === undefined ? "" : ` and members of ${controlGroup.name}`}`,
    `notices and descriptors: ${users}, for the users of the functions`,
    metrics === undefined ? "metrics: none" : `metrics: ${metrics}`,
    audit === undefined ? "audit: none" : `audit: ${audit}, a line of JSON for each event`,
    `traces: switched on by ring3 ctl trace, in ${traces}`,
    ...functions.flatMap(({ name, address, steps, obstacle }) => [
      "",
      `${name}: ${address}`,
      ...steps.map((step) => `  ${step}`),
      ...(obstacle === undefined ? [] : [`  NOT NOW: ${obstacle}`]),
    ]),
  ].join("\n");
  return { value: { path, control, controlGroup, users, metrics, audit, traces, functions }, text };
}

function explainFunction(settings: FunctionSettings, context: Context | undefined): ExplainedFunction {
  const { name, address, socket, users, rules } = settings;
  const { steps, obstacle } = context === undefined ? { steps: [], obstacle: undefined } : beginning(settings, context);
  return {
    name,
    address,
    socket,
    users: users.toString(),
    rules,
    steps: [...steps, ...service(settings)],
    obstacle,
  };
}

/** What happens to the machine at the start, and at the end. */
function beginning(
  { address, bind }: FunctionSettings,
  context: Context,
): { steps: string[]; obstacle: string | undefined } {
  if (address.startsWith("vfio-user:")) {
    return {
      steps: [`is opened at the socket of another process, ${address.slice("vfio-user:".length)}`],
      obstacle: undefined,
    };
  }
  const here = machine(context);
  try {
    const { driver } = readFunction(address, here.paths);
    if (!bind) return { steps: ["must be bound to VFIO already (ring3 bind), and stays so"], obstacle: undefined };
    const host = { ...here, operations: linuxOperations() };
    const { steps } = planBind({ addresses: [address] }, host);
    const from = driver === undefined ? "has no driver; it is bound to VFIO" : `is taken from ${driver}`;
    return { steps: [`${from} at the start, and given back at the end (${steps.length} steps)`], obstacle: undefined };
  } catch (error) {
    return { steps: [], obstacle: messageOf(error) };
  }
}

function service(settings: FunctionSettings): string[] {
  const {
    socket,
    users,
    rules,
    hide,
    trap,
    ranges,
    lockLimit,
    maps,
    openings,
    queue,
    queueSeconds,
    handOver,
    trace,
    removalSeconds,
  } = settings;
  const lendable = handOver.toString();
  const trapped = trap === true ? "all BARs" : trap === false ? "" : trap.map((bar) => `BAR ${bar}`).join(", ");
  return [
    `is reset, and served at ${socket} to ${users.toString() || "nobody"}, one after another; reset between them`,
    `config space by the rules ${rules}${hide.length === 0 ? "" : `, without ${hide.map(({ name }) => name).join(", ")}`}`,
    ...(trapped === "" ? [] : [`every access to ${trapped} is trapped`]),
    ...ranges.map(({ bar, offset, size, access }) => {
      return `BAR ${bar} from 0x${offset.toString(16)}, ${size} bytes: ${access}`;
    }),
    lockLimit === undefined
      ? `a user may lock as much memory as this service may, in ${maps} maps`
      : `a user may lock ${lockLimit} bytes of memory, in ${maps} maps`,
    `a user gets ${removalSeconds} s to let go when the function is wanted back`,
    ...(openings === 1 ? [] : [`${openings} programs of one user may have it open at a time`]),
    ...(queue === 0 ? [] : [`${queue} users may wait for it, ${queueSeconds} s at most`]),
    ...(lendable === "" ? [] : [`${lendable} may have the kernel's own descriptors of it, behind no rules`]),
    ...(trace === undefined ? [] : [`every access is recorded in ${trace}`]),
    ...(settings.allowWithoutReset ? ["is served even if it cannot be reset: users find what others left"] : []),
  ];
}
