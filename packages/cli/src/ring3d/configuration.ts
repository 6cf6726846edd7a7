// The configuration of ring3d: what a file may say, as a table, and what it said, with names looked up and defaults filled in.
import { dirname, join } from "node:path";
import type { BarIndex } from "ring3";
import type { BarRangeRule } from "ring3/mediation";
import { capabilityGroups, PciAddress, type RegisterGroup } from "ring3/pci";
import {
  namedCapabilities,
  parseBarRule,
  parseTraps,
  RULE_SET_NAMES,
  type RuleSetName,
} from "../serve/mediation-options.ts";
import { UsageError } from "../usage-error.ts";
import { checkedYaml, type ValueProblem } from "../yaml-file.ts";
import {
  bytes,
  choice,
  flag,
  integer,
  list,
  named,
  type SettingKind,
  type SettingTable,
  scalar,
  settings,
  text,
} from "./setting-kinds.ts";
import { type UserDirectory, UserSet, userWord } from "./user-set.ts";

/** Where ring3d keeps its sockets, and notes what it has taken. */
export const RUNTIME_DIRECTORY = "/run/ring3";

/** One function, as the file says it. */
export interface FunctionSettings {
  readonly name: string;
  readonly address: string;
  /** Whether to take it from its driver, and give it back at the end. */
  readonly bind: boolean;
  readonly socket: string;
  readonly users: UserSet;
  readonly rules: RuleSetName;
  readonly hide: readonly RegisterGroup[];
  readonly trap: boolean | readonly BarIndex[];
  readonly ranges: readonly BarRangeRule[];
  readonly lockLimit: number | undefined;
  readonly maps: number;
  /** Clients of one user at a time. */
  readonly openings: number;
  /** Users who may wait for it, and for how long. */
  readonly queue: number;
  readonly queueSeconds: number;
  /** Who may have the kernel's own descriptors. */
  readonly handOver: UserSet;
  readonly allowWithoutReset: boolean;
  readonly trace: string | undefined;
  readonly removalSeconds: number;
}

export interface Configuration {
  /** The file. */
  readonly path: string;
  readonly control: string;
  readonly controlGroup: { readonly gid: number; readonly name: string } | undefined;
  /** Where users are told what is about to happen, and get descriptors. */
  readonly users: string;
  readonly metrics: string | undefined;
  readonly audit: string | undefined;
  /** Directory for traces that are switched on later. */
  readonly traces: string;
  readonly functions: readonly FunctionSettings[];
}

const absolute: SettingKind<string> = text(
  (path) => {
    if (!path.startsWith("/")) throw new RangeError(`an absolute path is wanted, not "${path}"`);
  },
  { pattern: "^/" },
);

/** Linux takes 107 bytes for the path of a socket. */
const socketPath: SettingKind<string> = text(
  (path) => {
    if (!path.startsWith("/")) throw new RangeError(`an absolute path is wanted, not "${path}"`);
    if (Buffer.byteLength(path) > 107) throw new RangeError("the path of a socket has 107 bytes at most");
  },
  { pattern: "^/", maxLength: 107 },
);

const address: SettingKind<string> = text((value) => {
  if (value.startsWith("vfio-user:/") || PciAddress.accepts(value)) return;
  throw new RangeError(
    `a function is wanted, as "0000:01:00.0" (in quotes: YAML takes colons for time) or vfio-user:/PATH, not "${value}"`,
  );
});

const capability: SettingKind<readonly RegisterGroup[]> = scalar({ type: "string" }, (value) =>
  namedCapabilities(String(value), capabilityGroups, (known) => {
    throw new RangeError(`no capability is called ${JSON.stringify(value)}; there are ${known}`);
  }),
);

/** What the words of a command's option take, in the file. */
function word<T>(read: (text: string) => T): SettingKind<T> {
  return scalar({ type: ["string", "integer"] }, (value) => {
    try {
      return read(String(value));
    } catch (error) {
      throw error instanceof UsageError
        ? new RangeError(error.message.replace(/^--\S+ /, ""), { cause: error })
        : error;
    }
  });
}

const FUNCTION = {
  address: { kind: address, description: 'the function: "0000:01:00.0", or vfio-user:/PATH', required: true },
  bind: {
    kind: flag,
    description: "take it from its driver at the start and give it back at the end (default: for PCI addresses)",
  },
  socket: { kind: socketPath, description: `where its users connect (default ${RUNTIME_DIRECTORY}/NAME.sock)` },
  users: { kind: list(userWord), description: "who may connect: names, uids, @groups", required: true },
  rules: {
    kind: choice(RULE_SET_NAMES),
    description: "what of config space users see and write (docs/mediation-rules.md)",
    initial: "strict",
  },
  hide: { kind: list(capability), description: "capabilities that users do not see, as AER, VPD" },
  trap: {
    kind: list(
      word((text) => {
        parseTraps([text]);
        return text;
      }),
    ),
    description: "BARs of which no page is mapped: bar0, or all",
  },
  ranges: {
    kind: list(word(parseBarRule)),
    description: "bar0+OFFSET+SIZE=read-only, =hidden, =trapped or =limited:N (writes a second)",
  },
  "lock-limit": { kind: bytes(4096), description: "memory that a user may have locked for DMA" },
  maps: { kind: integer(1, 65_535), description: "mappings that a user may have", initial: 65_535 },
  openings: { kind: integer(1, 16), description: "programs of one user that may have it open at a time", initial: 1 },
  queue: {
    kind: integer(0, 64),
    description: "users who may wait while another one has it; others are refused at once",
    initial: 0,
  },
  "queue-seconds": { kind: integer(1, 86_400), description: "how long one may wait", initial: 30 },
  "hand-over": {
    kind: list(userWord),
    description: "users who may have the kernel's own descriptors: full speed, and no rules (docs/ring3d-notices.md)",
  },
  "allow-without-reset": {
    kind: flag,
    description: "serve a function that cannot be reset alone: its next user finds what the one before left",
    initial: false,
  },
  trace: { kind: absolute, description: "record every access of its users in this file, from the start" },
  "removal-seconds": {
    kind: integer(0, 3600),
    description: "how long its user may take to let go when the function is wanted back",
    initial: 10,
  },
} as const;

const SERVICE = {
  control: {
    kind: socketPath,
    description: "socket for ring3 ctl",
    initial: `${RUNTIME_DIRECTORY}/control.sock`,
  },
  "control-group": { kind: text(), description: "a group whose members may use it, besides root" },
  "users-socket": {
    kind: socketPath,
    description: "socket where users are told what is about to happen (docs/ring3d-notices.md)",
    initial: `${RUNTIME_DIRECTORY}/users.sock`,
  },
  metrics: { kind: socketPath, description: "socket that gives metrics to Prometheus" },
  audit: { kind: absolute, description: "file that gets a line for each opening, refusal and rule hit" },
  traces: {
    kind: absolute,
    description: "directory for the traces of ring3 ctl trace on",
    initial: "/var/log/ring3",
  },
  functions: {
    kind: named(settings(FUNCTION), (name) => {
      if (/^[a-z0-9][a-z0-9._-]{0,40}$/i.test(name)) return;
      throw new RangeError(`"${name}" is no name for a function: letters, digits, dots and dashes, 41 at most`);
    }),
    description: "the functions to serve, each with a name",
    required: true,
  },
} as const;

const FILE = settings(SERVICE);

/** What the file takes, as JSON schema: for editors, and for the documentation. */
export function configurationSchema(): object {
  return { $schema: "https://json-schema.org/draft/2020-12/schema", title: "ring3d configuration", ...FILE.schema };
}

/** What may be said, for the documentation: each setting with its default in words. */
export function settingTables(): Readonly<
  Record<
    "SERVICE" | "FUNCTION",
    readonly { readonly name: string; readonly description: string; readonly initial: string }[]
  >
> {
  const rows = (table: SettingTable): { name: string; description: string; initial: string }[] =>
    Object.entries(table).map(([name, { description, initial, required }]) => {
      const silent = required === true ? "must be there" : "";
      return {
        name,
        description,
        initial: initial === undefined ? silent : `\`${JSON.stringify(initial).replaceAll('"', "")}\``,
      };
    });
  return { SERVICE: rows(SERVICE), FUNCTION: rows(FUNCTION) };
}

/**
 * Reads the text of the file at `path`. Throws `UsageError` with everything that is wrong, by line and column. Users and
 * groups are looked up in `directory`.
 */
export function parseConfiguration(text: string, path: string, directory: UserDirectory): Configuration {
  let parsed: Configuration | undefined;
  checkedYaml(text, path, "configuration of ring3d", (value) => {
    const problems: ValueProblem[] = [];
    parsed = read(value, path, directory, (problem) => problems.push(problem));
    return problems;
  });
  if (parsed === undefined) throw new UsageError(`${path}: this is no configuration of ring3d`);
  return parsed;
}

type Report = (problem: ValueProblem) => void;

function read(value: unknown, path: string, directory: UserDirectory, report: Report): Configuration | undefined {
  const file = FILE.read(value, [], report);
  if (file === undefined) return undefined;
  // Each is read by itself, so that one that is wrong hides no other's mistakes.
  const functions = [...(file.functions ?? [])].map(([name, given]): FunctionSettings => {
    const at = ["functions", name];
    const place = given.address ?? "";
    return {
      name,
      address: PciAddress.accepts(place) ? PciAddress.parse(place).toString() : place,
      bind: given.bind ?? PciAddress.accepts(place),
      socket: given.socket ?? join(RUNTIME_DIRECTORY, `${name}.sock`),
      users: UserSet.read(given.users ?? [], directory, (message, index) =>
        report({ path: [...at, "users", index], message }),
      ),
      rules: given.rules ?? "strict",
      hide: (given.hide ?? []).flat(),
      trap: parseTraps(given.trap ?? []),
      ranges: given.ranges ?? [],
      lockLimit: given["lock-limit"],
      maps: given.maps,
      openings: given.openings,
      queue: given.queue,
      queueSeconds: given["queue-seconds"],
      handOver: UserSet.read(given["hand-over"] ?? [], directory, (message, index) =>
        report({ path: [...at, "hand-over", index], message }),
      ),
      allowWithoutReset: given["allow-without-reset"],
      trace: given.trace,
      removalSeconds: given["removal-seconds"],
    };
  });
  clashes(file, functions, report);
  const { "control-group": group } = file;
  return {
    path,
    control: file.control,
    controlGroup: group === undefined ? undefined : groupSetting(group, directory, report),
    users: file["users-socket"],
    metrics: file.metrics,
    audit: file.audit,
    traces: file.traces,
    functions,
  };
}

function groupSetting(name: string, directory: UserDirectory, report: Report): Configuration["controlGroup"] {
  const gid = scalar({}, () => directory.gid(name)).read(name, ["control-group"], report);
  return gid === undefined ? undefined : { gid, name };
}

/** Two functions at one socket, or one function twice, cannot be. */
function clashes(
  file: { readonly control: string; readonly "users-socket": string; readonly metrics: string | undefined },
  functions: readonly FunctionSettings[],
  report: Report,
): void {
  const sockets = new Map([[file.control, "control"]]);
  for (const setting of ["users-socket", "metrics"] as const) {
    const path = file[setting];
    if (path === undefined) continue;
    const other = sockets.get(path);
    if (other !== undefined) report({ path: [setting], message: `this is the ${other} socket's path` });
    sockets.set(path, setting);
  }
  const addresses = new Map<string, string>();
  for (const { name, socket, address: place, bind, handOver } of functions) {
    const at = ["functions", name];
    const other = sockets.get(socket);
    if (other !== undefined) report({ path: [...at, "socket"], message: `${socket} is the socket of ${other}` });
    sockets.set(socket, name);
    const twin = addresses.get(place);
    if (twin !== undefined) report({ path: [...at, "address"], message: `${place} is served as ${twin} already` });
    if (place !== "") addresses.set(place, name);
    if (bind && place.startsWith("vfio-user:")) {
      report({ path: [...at, "bind"], message: "what another process serves has no driver to take it from" });
    }
    if (handOver.uids.length + handOver.gids.length > 0 && place.startsWith("vfio-user:")) {
      report({ path: [...at, "hand-over"], message: "what another process serves has no descriptors of the kernel" });
    }
  }
}

/** Directories that the sockets of a configuration lie in. */
export function socketDirectories({ control, users, metrics, functions }: Configuration): readonly string[] {
  const paths = [control, users, ...(metrics === undefined ? [] : [metrics]), ...functions.map(({ socket }) => socket)];
  return [...new Set(paths.map((path) => dirname(path)))];
}
