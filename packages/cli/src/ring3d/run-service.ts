// The service as a process: functions, sockets, logs and signals put together, in the order in which they must begin and end.
import { mkdirSync } from "node:fs";
import { watchHost } from "ring3/host";
import type { FileDescriptor } from "ring3/linux";
import type { Context } from "../context.ts";
import { takeHangup } from "../interruption.ts";
import { machine } from "../machine.ts";
import { openAuditLog } from "./audit-log.ts";
import { type Configuration, RUNTIME_DIRECTORY, socketDirectories } from "./configuration.ts";
import { serveControl } from "./control-socket.ts";
import { MachineHardware } from "./hardware.ts";
import { serveMetrics } from "../serve/metrics-socket.ts";
import { serviceMetrics } from "./service-metrics.ts";
import { FunctionService } from "./service.ts";
import type { ServiceEvent } from "./service-interface.ts";
import { connectLogind, systemBus } from "./logind.ts";
import { SleepGuard } from "./sleep-guard.ts";
import { listenFds, notify } from "./systemd.ts";
import { serveUsers } from "./users-socket.ts";

export async function machineHardware(context: Context): Promise<MachineHardware> {
  await Promise.resolve();
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
  const hardware = await machineHardware(context);
  await using resources = new AsyncDisposableStack();
  const machineEvents = resources.use(await watchHost());
  const inherited = resources.use(new InheritedSockets(context));
  const service = new FunctionService(configuration, {
    hardware,
    reread,
    machine: machineEvents,
    // Each time that a function is served; the socket itself stays ours.
    listenFd: (name) => inherited.get(name)?.duplicate().release(),
  });
  resources.use(service.on((event) => say(event, context)));
  const { audit, control, controlGroup, users, metrics } = configuration;
  // Two services with one control socket are one too many: the second ends here, before it touches a function.
  resources.use(
    await serveControl(service, control, { group: controlGroup, inherited: inherited.get("control")?.duplicate() }),
  );
  if (audit !== undefined) resources.use(openAuditLog(service, audit, { stderr: context.streams.stderr }));
  if (metrics !== undefined) {
    const counted = resources.use(serviceMetrics(service));
    resources.use(await serveMetrics(metrics, () => counted.text()));
  }
  await giveBackLeftovers(configuration, hardware, context);
  resources.use(takeHangup(() => void service.reload(undefined).catch(() => undefined)));
  resources.defer(() => service.stop(reasonOf(context.signal)));
  resources.use(serveUsers(users, service, { inherited: inherited.get("users")?.duplicate() }));
  resources.use(guardSleep(service, context));
  await service.start();
  notify(context.environment, { READY: 1, STATUS: `${configuration.functions.length} functions` });
  context.line({ event: "serving", pid: process.pid, functions: service.functions() }, () => "ring3d is ready");
  await aborted(context.signal);
  notify(context.environment, { STOPPING: 1 });
}

/** Users are asked before the machine sleeps, where logind is. */
function guardSleep(service: FunctionService, context: Context): Disposable {
  const bus = systemBus(context.environment);
  return new SleepGuard({
    notices: service.notices,
    functions: () => service.functions().map(({ name }) => name),
    connect: (onSleep) => connectLogind(onSleep, bus),
    onEvent: (event) => {
      if (event.type === "asked") service.told(event.outcome);
      else if (event.type === "logind-missing") {
        context.progress.step(`nobody is asked before the machine sleeps: ${event.reason}`);
      }
    },
  });
}

/** Sockets at which systemd listens for us, by the names of their units. */
class InheritedSockets implements Disposable {
  readonly #sockets: Map<string, FileDescriptor>;

  constructor({ environment }: Context) {
    const passed = listenFds(environment);
    this.#sockets = new Map([...passed].flatMap(([name, [first]]) => (first === undefined ? [] : [[name, first]])));
  }

  get(name: string): FileDescriptor | undefined {
    return this.#sockets.get(name);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets.values()) socket.close();
  }
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
function say(event: ServiceEvent, context: Context): void {
  if (context.json) return context.line(event, () => "");
  const { type, ...facts } = event;
  const name = "function" in facts ? `${facts.function}: ` : "";
  const rest = Object.entries(facts).filter(([key, value]) => key !== "function" && value !== undefined);
  const words = rest.map(
    ([key, value]) => `${key} ${typeof value === "object" ? JSON.stringify(value) : String(value)}`,
  );
  context.streams.stderr.write(`${name}${type}${words.length === 0 ? "" : ` (${words.join(", ")})`}\n`);
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function reasonOf({ reason }: AbortSignal): string {
  return reason instanceof Error ? reason.message : "it was stopped";
}
