// The service as a process: functions, sockets, logs and signals put together, in the order in which they must begin and end.
import { mkdirSync } from "node:fs";
import { userName, watchHost } from "ring3/host";
import type { Context } from "../context.ts";
import { aborted, takeHangup } from "../interruption.ts";
import { machine } from "../machine.ts";
import { openAuditLog } from "./audit-log.ts";
import { type Configuration, RUNTIME_DIRECTORY, socketDirectories } from "./configuration.ts";
import { serveControl } from "./control-socket.ts";
import { type EventFacts, eventLines } from "./event-lines.ts";
import { connectLogind, systemBus } from "./logind.ts";
import { SleepGuard } from "./sleep-guard.ts";
import { MachineHardware } from "./hardware.ts";
import { statusText, tellManager } from "./manager-status.ts";
import { serveMetrics } from "../serve/metrics-socket.ts";
import { serviceMetrics } from "./service-metrics.ts";
import { FunctionService } from "./service.ts";
import { byPath, listenFds, notify } from "./systemd.ts";
import { serveUsers } from "./users-socket.ts";

export function machineHardware(context: Context): MachineHardware {
  // What was begun is finished: a signal ends the service between two functions, not in one.
  const { signal: _signal, ...host } = machine(context);
  return new MachineHardware(host, `${RUNTIME_DIRECTORY}/taken`);
}

/** Serves until the context's signal aborts, which is how a service is meant to end: that is no failure. */
export async function runService(
  configuration: Configuration,
  reread: () => Promise<Configuration>,
  context: Context,
): Promise<void> {
  context.signal.throwIfAborted();
  for (const directory of socketDirectories(configuration)) mkdirSync(directory, { recursive: true, mode: 0o755 });
  const hardware = machineHardware(context);
  await using resources = new AsyncDisposableStack();
  const machineEvents = resources.use(await watchHost());
  const { environment } = context;
  const listenFd = byPath(listenFds(environment));
  const service = new FunctionService(configuration, { hardware, reread, machine: machineEvents, listenFd });
  resources.use(eventLines(service, (event, facts) => say(event, facts, context), { nameOf: userName }));
  const { audit, control, controlGroup, users, metrics } = configuration;
  // Two services with one control socket are one too many: the second ends here, before it touches a function.
  resources.use(await serveControl(service, control, { group: controlGroup, listenFd: listenFd(control) }));
  if (audit !== undefined) resources.use(openAuditLog(service, audit, { stderr: context.streams.stderr }));
  if (metrics !== undefined) {
    const counted = resources.use(serviceMetrics(service));
    resources.use(await serveMetrics(metrics, () => counted.text(), { group: controlGroup?.gid }));
  }
  await giveBackLeftovers(configuration, hardware, context);
  resources.use(takeHangup(() => void service.reload(undefined).catch(() => undefined)));
  resources.defer(() => service.stop(reasonOf(context.signal)));
  resources.use(serveUsers(users, service, { listenFd: listenFd(users) }));
  resources.use(guardSleep(service, context));
  await service.start();
  resources.use(tellManager(service, environment));
  notify(environment, { READY: 1, STATUS: statusText(service.functions()) });
  context.line({ event: "serving", pid: process.pid, functions: service.functions() }, () => "ring3d is ready");
  await aborted(context.signal);
  notify(environment, { STOPPING: 1, STATUS: "giving functions back" });
}

/** Users are asked before the machine sleeps, where logind is. */
function guardSleep(service: FunctionService, context: Context): Disposable {
  const bus = systemBus(context.environment);
  return new SleepGuard({
    notices: service.notices,
    sleep: service.sleep,
    connect: (onSleep) => connectLogind(onSleep, bus),
    onEvent: (event) => {
      if (event.type !== "logind-missing") return;
      context.progress.step(`nobody is asked before the machine sleeps: ${event.reason}`);
    },
  });
}

/** What a service before this one had taken, and this one's configuration does not name. */
async function giveBackLeftovers(
  configuration: Configuration,
  hardware: MachineHardware,
  context: Context,
): Promise<void> {
  const kept = new Set(configuration.functions.filter(({ bind }) => bind).map(({ address }) => address));
  for (const address of hardware.taken()) {
    if (kept.has(address)) continue;
    try {
      await hardware.giveBack(address);
      context.progress.step(`${address} was left by a service before this one, and is given back`);
    } catch (error) {
      context.progress.step(`${address} was left by a service before this one, and stays: ${String(error)}`);
    }
  }
}

/** One line for people, as a journal shows it. */
function say(event: string, { function: fn, ...facts }: EventFacts, context: Context): void {
  if (context.json)
    return context.line({ type: event, ...(fn === undefined ? {} : { function: fn }), ...facts }, () => "");
  const name = typeof fn === "string" ? `${fn}: ` : "";
  const words = Object.entries(facts).flatMap(([key, value]) => {
    if (value === undefined) return [];
    return [`${key} ${typeof value === "string" ? value : JSON.stringify(value)}`];
  });
  context.streams.stderr.write(`${name}${event}${words.length === 0 ? "" : ` (${words.join(", ")})`}\n`);
}

function reasonOf({ reason }: AbortSignal): string {
  return reason instanceof Error ? reason.message : "it was stopped";
}
