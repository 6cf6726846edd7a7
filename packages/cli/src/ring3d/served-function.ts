// One opening of a function for the service's users: the real one behind rules, at its socket, and traced where that is wanted.
import type { PciFunction } from "ring3";
import { type MediatedFunction, type MediationObserver, mediate } from "ring3/mediation";
import { type ConnectingPeer, type FunctionServer, type ServerEvent, serve } from "ring3/vfio-user";
import type { FunctionSettings } from "./configuration.ts";
import { mediationOptions } from "./function-rules.ts";
import { socketAccess } from "./function-socket.ts";
import { beginTrace, type FunctionTrace } from "./function-trace.ts";

/** What is done with what happens to it. */
export interface ServedParts {
  readonly observer: MediationObserver;
  /** Throws where somebody may not have it now. */
  readonly admit: (peer: ConnectingPeer) => void;
  readonly onEvent: (event: ServerEvent) => void;
  /** A socket where somebody else listens already. */
  readonly listenFd: number | undefined;
}

/** Disposal disconnects its users, resets the function and closes it. {@link serveFunction} makes one. */
export class ServedFunction implements AsyncDisposable {
  readonly real: PciFunction;
  readonly mediated: MediatedFunction;
  readonly server: FunctionServer;
  readonly #resources: AsyncDisposableStack;
  #trace: FunctionTrace | undefined;

  constructor(
    real: PciFunction,
    mediated: MediatedFunction,
    server: FunctionServer,
    resources: AsyncDisposableStack,
    trace: FunctionTrace | undefined,
  ) {
    this.real = real;
    this.mediated = mediated;
    this.server = server;
    this.#resources = resources;
    this.#trace = trace;
  }

  /** The file of the trace that is being written. */
  get trace(): string | undefined {
    return this.#trace?.file;
  }

  /** Begins a trace in the file `path`, unless there is one; gives its file. */
  beginTrace(path: string): string {
    this.#trace ??= beginTrace(this.mediated, path);
    return this.#trace.file;
  }

  /** Ends the trace; gives its file, if there was one. */
  endTrace(): string | undefined {
    const file = this.trace;
    this.#trace?.[Symbol.dispose]();
    this.#trace = undefined;
    return file;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.endTrace();
    await this.#resources.disposeAsync();
  }
}

/** Serves `real`, and closes it in the end: also where it cannot be served. */
export async function serveFunction(
  real: PciFunction,
  settings: FunctionSettings,
  { observer, admit, onEvent, listenFd }: ServedParts,
): Promise<ServedFunction> {
  const { socket, openings, queue, queueSeconds, users } = settings;
  await using resources = new AsyncDisposableStack();
  resources.use(real);
  const mediated = resources.use(await mediate(real, mediationOptions(settings, observer)));
  const trace = settings.trace === undefined ? undefined : resources.use(beginTrace(mediated, settings.trace));
  const options = {
    // Somebody else's socket has the permissions that its maker gave it.
    ...(listenFd === undefined ? socketAccess(users) : { listenFd }),
    openings,
    queue,
    queueMs: queueSeconds * 1000,
    admit,
    onEvent,
  };
  const server = resources.use(await serve(mediated, socket, options));
  return new ServedFunction(real, mediated, server, resources.move(), trace);
}
