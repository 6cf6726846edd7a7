// An administrator's end of the control socket: a request, and its answer or what it failed of.
import { lstatSync, type Stats } from "node:fs";
import { connect, type Socket } from "node:net";
import { Ring3Error } from "ring3";
import { LineReader } from "ring3/notices";
import { groupName, userName } from "ring3/host";
import { UsageError } from "../usage-error.ts";
import type { ControlError, ControlRequest } from "./control-protocol.ts";

/** Answers have all functions in them; a service that sends more in a line is none of ours. */
const MAXIMUM_ANSWER_BYTES = 64 * 1024 * 1024;

type Line = Readonly<{ result?: unknown; error?: ControlError; event?: Readonly<Record<string, unknown>> }>;

/** A connection to the service. Disposal ends it. */
export class ControlClient implements Disposable {
  readonly #stream: Socket;
  readonly #lines: AsyncIterator<Line>;

  private constructor(stream: Socket, path: string) {
    this.#stream = stream;
    this.#lines = linesOf(stream, path);
  }

  /** Connects to the service at `path`. Throws `SERVICE_NOT_RUNNING` or `PERMISSION_DENIED`, each with what to do. */
  static async connect(path: string, signal: AbortSignal): Promise<ControlClient> {
    const stream = connect({ path, signal });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    stream.once("connect", resolve).once("error", reject);
    try {
      await promise;
    } catch (error) {
      signal.throwIfAborted();
      throw explained(path, error as NodeJS.ErrnoException);
    }
    stream.off("error", reject);
    return new ControlClient(stream, path);
  }

  /** The answer to `request`. Throws the service's error. */
  async ask<Answer>(request: ControlRequest): Promise<Answer> {
    this.#stream.write(`${JSON.stringify(request)}\n`);
    for (;;) {
      const { result, error, event } = await this.#next();
      if (event !== undefined) continue;
      if (error === undefined) return result as Answer;
      if (error.code === "USAGE") throw new UsageError(error.message);
      // The service's errors have their code in front of their sentence, as ours will.
      throw new Ring3Error(error.code, error.message.replace(`${error.code}: `, ""));
    }
  }

  /** Events, once `events` was asked for; ends when the service does. */
  async *events(): AsyncGenerator<Readonly<Record<string, unknown>>> {
    for (;;) {
      const { done, value } = await this.#lines.next();
      if (done === true) return;
      if (value.event !== undefined) yield value.event;
    }
  }

  [Symbol.dispose](): void {
    this.#stream.destroy();
  }

  async #next(): Promise<Line> {
    const { done, value } = await this.#lines.next();
    if (done !== true) return value;
    throw new Ring3Error(
      "SERVICE_ENDED",
      "ring3d hung up before it answered: see what its log says (journalctl -u ring3d)",
    );
  }
}

async function* linesOf(stream: Socket, path: string): AsyncGenerator<Line, void> {
  const reader = new LineReader(MAXIMUM_ANSWER_BYTES);
  try {
    for await (const chunk of stream) {
      for (const text of reader.push(chunk as Buffer)) yield parsed(text, path);
    }
  } catch (error) {
    // The service has hung up in the middle of something; what it said before was read.
    if (!["ECONNRESET", "EPIPE"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

function parsed(text: string, path: string): Line {
  try {
    const value = JSON.parse(text) as unknown;
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // No JSON: the same as JSON that is no object.
  }
  throw new Ring3Error("NOT_RING3D", `what listens at ${path} is not ring3d: give its control socket by --socket`);
}

function explained(path: string, error: NodeJS.ErrnoException): Error {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return new Ring3Error(
        "SERVICE_NOT_RUNNING",
        `nobody serves at ${path}: start the service (systemctl start ring3d), or give its control socket by --socket`,
        { errno: error.code, cause: error },
      );
    case "EACCES":
    case "EPERM":
      return new Ring3Error("PERMISSION_DENIED", `you may not control ring3d at ${path}: ${whoMay(path)}`, {
        errno: error.code,
        cause: error,
      });
    default:
      return error;
  }
}

/** As the socket's permissions say; the service's own check is never wider. */
function whoMay(path: string): string {
  let found: Stats;
  try {
    found = lstatSync(path);
  } catch {
    return "its directory is closed to you; use sudo";
  }
  const owner = userName(found.uid) ?? `uid ${found.uid}`;
  if ((found.mode & 0o020) === 0) return `${owner} may; use sudo`;
  const group = groupName(found.gid) ?? `gid ${found.gid}`;
  return `${owner} and the group ${group} may; use sudo, or have yourself added to it`;
}
