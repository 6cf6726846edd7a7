// What every `ring3 serve` does once its devices exist: serves each at its socket, says that it is ready, keeps log and
// metrics, and on a signal closes everything in order. The server comes from the library; tests pass their own.
import { messageOf } from "ring3/binary";
import type { FaultPlan, Injection } from "ring3/faults";
import type {
  FunctionServer,
  ServeOptions,
  ServerBetween,
  ServerEvent,
  ServerWatch,
  TracedMessage,
} from "ring3/vfio-user";
import type { VirtualFunction } from "ring3/virtual";
import type { Context } from "../context.ts";
import { aborted } from "../interruption.ts";
import { hex } from "../text.ts";
import { type EventLog, openEventLog } from "./event-log.ts";
import type { ServerSettings } from "./server-options.ts";

interface ServedFunction {
  readonly fn: VirtualFunction;
  readonly path: string;
}

export interface Serving {
  /** What is served, in the words of the command line: `nvme`, or a file. */
  readonly device: string;
  /** What people want to know about it, in a few words. */
  readonly summary: string;
  readonly functions: readonly ServedFunction[];
  /** As {@link ServeOptions.postedWrites}. */
  readonly postedWrites?: boolean;
}

export type StartServer = (fn: VirtualFunction, path: string, options: ServeOptions) => Promise<FunctionServer>;

const startServer: StartServer = async (fn, path, options) => {
  const { serve } = await import("ring3/vfio-user");
  return await serve(fn, path, options);
};

/** Serves until the context's signal aborts, which is how a server is meant to end: that is no failure. */
export async function serveFunctions(
  serving: Serving,
  settings: ServerSettings,
  context: Context,
  start: StartServer = startServer,
): Promise<void> {
  context.signal.throwIfAborted();
  await using resources = new AsyncDisposableStack();
  const log = resources.use(openEventLog(settings.log, context.streams.stderr));
  const servers: FunctionServer[] = [];
  const watches = settings.trace === undefined ? undefined : resources.use(await traceServing(settings.trace));
  for (const { fn, path } of serving.functions) {
    const watch = watches?.watch(fn);
    const between = settings.faults === undefined ? undefined : await faultsBefore(fn, settings.faults, log);
    const options = {
      ...serveOptions(path, settings, log),
      ...(serving.postedWrites === undefined ? {} : { postedWrites: serving.postedWrites }),
      ...(watch === undefined ? {} : { watch }),
      ...(between === undefined ? {} : { between }),
    };
    servers.push(resources.use(await start(fn, path, options)));
    if (settings.log !== undefined) resources.use(logEvents(fn, path, log));
  }
  if (settings.metrics !== undefined) {
    const [{ serveMetrics }, { metricsText }] = await Promise.all([
      import("./metrics-socket.ts"),
      import("./server-metrics.ts"),
    ]);
    resources.use(await serveMetrics(settings.metrics, () => metricsText(servers)));
  }
  const functions = serving.functions.map(({ fn, path }) => describe(fn, path));
  log.write("ready", { device: serving.device, functions });
  sayReady(serving, functions, context);
  await aborted(context.signal);
  const { reason } = context.signal;
  log.write("stopping", { reason: messageOf(reason) });
  await resources.disposeAsync();
}

interface ServingTrace extends Disposable {
  watch(fn: VirtualFunction): ServerWatch;
}

/** Clients of each function are numbered from a number of their own, so that they do not meet in one file. */
const CLIENTS_APART = 1000;

async function traceServing(path: string): Promise<ServingTrace> {
  const [{ DeviceTrace }, { openTraceFile }, { knownDeviceRegisters }] = await Promise.all([
    import("ring3/trace"),
    import("../trace/trace-file.ts"),
    import("ring3/registers"),
  ]);
  const resources = new DisposableStack();
  const file = resources.use(openTraceFile(path));
  const startMs = performance.now();
  let functions = 0;
  return {
    watch: (fn) => {
      const options = { registers: knownDeviceRegisters(fn), startMs, fn: CLIENTS_APART * functions++ };
      return resources.use(new DeviceTrace(fn, file, options));
    },
    [Symbol.dispose]: () => resources.dispose(),
  };
}

async function faultsBefore(fn: VirtualFunction, plan: FaultPlan, log: EventLog): Promise<ServerBetween> {
  const [{ DeviceFaults }, { knownDeviceRegisters }] = await Promise.all([
    import("ring3/faults"),
    import("ring3/registers"),
  ]);
  const onInjected = ({ kind, description }: Injection): void => log.write("injected", { kind, description });
  return new DeviceFaults(fn, plan, { registers: knownDeviceRegisters(fn), onInjected });
}

function serveOptions(path: string, settings: ServerSettings, log: EventLog): ServeOptions {
  const { mode, owner, allowUids, openings, queue, state, keepState, twinSocket, trustUnsealedMemory } = settings;
  return {
    ...(mode === undefined ? {} : { mode }),
    ...(owner === undefined ? {} : { owner }),
    ...(allowUids === undefined ? {} : { allowUids }),
    ...(state === undefined ? {} : { state }),
    openings,
    queue,
    keepState,
    twinSocket,
    trustUnsealedMemory,
    ...(settings.logMessages
      ? { onMessage: (message: TracedMessage) => log.write("message", { socket: path, ...message }) }
      : {}),
    onEvent: ({ type, ...facts }: ServerEvent) => log.write(type, { socket: path, ...facts }),
  };
}

/** What a function tells besides what its server does. */
const FUNCTION_EVENTS = ["reset", "power", "decoding", "resized", "error", "removal-requested", "removed"] as const;

/** Writes down what happens to the function itself, and which memory it may reach. */
function logEvents(fn: VirtualFunction, path: string, log: EventLog): Disposable {
  const listeners = new DisposableStack();
  for (const event of FUNCTION_EVENTS) {
    listeners.use(fn.events.on(event, (facts: object) => log.write(event, { socket: path, ...facts })));
  }
  for (const event of ["mapped", "unmapped"] as const) {
    listeners.use(
      fn.events.on(event, ({ iova, size, permission }) => log.write(event, { socket: path, iova, size, permission })),
    );
  }
  return listeners;
}

interface FunctionLine {
  readonly address: string;
  readonly socket: string;
  readonly name: string;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly classCode: number;
  readonly modelVersion: number | undefined;
}

function describe({ identity }: VirtualFunction, path: string): FunctionLine {
  const { address: name, vendorId, deviceId, classCode, modelVersion } = identity;
  return { address: `vfio-user:${path}`, socket: path, name, vendorId, deviceId, classCode, modelVersion };
}

/** One line, for people or for programs, as soon as clients may connect. */
function sayReady(serving: Serving, functions: readonly FunctionLine[], context: Context): void {
  const { stdout } = context.streams;
  context.progress.clear();
  if (context.json) {
    stdout.write(`${JSON.stringify({ event: "ready", device: serving.device, pid: process.pid, functions })}\n`);
    return;
  }
  const ids = functions.map(({ vendorId, deviceId }) => `${hex(vendorId, 4)}:${hex(deviceId, 4)}`);
  const places = functions.map(({ address }) => context.style.bold(address)).join(", ");
  stdout.write(`serving ${serving.device} [${ids[0] ?? ""}] ${serving.summary}, at ${places}; Ctrl-C ends it\n`);
}
