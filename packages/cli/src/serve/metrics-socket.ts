// Metrics on a UNIX socket, so that file permissions say who may read them. Whoever asks by HTTP gets an HTTP response,
// whoever only connects (`socat - UNIX:PATH`, `nc -U PATH`) the text alone. Hard part: the second says nothing, so a
// connection that stays silent for a moment, or that ends its sending side, is taken for one.
import { once } from "node:events";
import { chmodSync, chownSync, lstatSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { UsageError } from "../usage-error.ts";
import { PROMETHEUS_CONTENT_TYPE } from "./prometheus-text.ts";

/** A request line and headers longer than this come from nobody who wants metrics. */
const MAXIMUM_REQUEST_BYTES = 16_384;

export interface MetricsSocketOptions {
  /** How long a connection may be silent before it gets the text, in milliseconds; 250 by default. */
  readonly silenceMs?: number;
  /** How long a reader may then take to hang up, in milliseconds; 5000 by default. */
  readonly lingerMs?: number;
  /** A group whose members may ask, besides the owner; by default whoever the umask lets. */
  readonly group?: number | undefined;
}

/** Listens at `path` and answers with what `text` gives at that time. Disposal closes and removes the socket. */
export async function serveMetrics(
  path: string,
  text: () => string,
  { silenceMs = 250, lingerMs = 5000, group }: MetricsSocketOptions = {},
): Promise<AsyncDisposable> {
  const connections = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    answer(socket, text, silenceMs, lingerMs);
  });
  await listen(server, path);
  try {
    if (group !== undefined) {
      chownSync(path, process.geteuid?.() ?? 0, group);
      chmodSync(path, 0o660);
    }
  } catch (error) {
    server.close();
    throw error;
  }
  // Too many open files, say: whoever wanted metrics goes without, and the devices go on.
  server.on("error", () => undefined);
  return {
    [Symbol.asyncDispose]: async () => {
      for (const socket of connections) socket.destroy();
      // Node removes the path of a UNIX socket that it closes.
      server.close();
      await once(server, "close");
    },
  };
}

/** A path that a killed process left behind is taken over; one that somebody serves is not. */
async function listen(server: Server, path: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await once(server.listen(path), "listening");
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || attempt > 0) throw error;
      if (!lstatSync(path).isSocket()) {
        throw new UsageError(`--metrics ${path}: a file that is no socket is there; choose another path`);
      }
      if (await isServed(path)) {
        throw Object.assign(new Error(`--metrics ${path}: another process serves metrics there; choose another path`), {
          code: "EBUSY",
        });
      }
      rmSync(path, { force: true });
    }
  }
}

async function isServed(path: string): Promise<boolean> {
  const { connect } = await import("node:net");
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

function answer(socket: Socket, text: () => string, silenceMs: number, lingerMs: number): void {
  let request = "";
  const reply = (): void => {
    if (socket.writableEnded) return;
    socket.end(request === "" ? text() : httpResponse(request, text));
    socket.off("timeout", reply);
    socket.setTimeout(lingerMs, () => socket.destroy());
  };
  // A reader that goes away is its own business.
  socket.on("error", () => socket.destroy());
  socket.setTimeout(silenceMs, reply);
  socket.setEncoding("latin1");
  socket.on("end", reply);
  socket.on("data", (chunk: string) => {
    request += chunk;
    if (/\r?\n\r?\n/.test(request)) reply();
    else if (request.length > MAXIMUM_REQUEST_BYTES) socket.destroy();
  });
}

function httpResponse(request: string, text: () => string): string {
  const [, method, target = ""] = /^([A-Z]+) (\S+) HTTP\/1\.[01]\r?\n/.exec(request) ?? [];
  if (method === undefined) return httpText("400 Bad Request", "no HTTP request\n", true);
  if (method !== "GET" && method !== "HEAD") return httpText("405 Method Not Allowed", "only GET and HEAD\n", true);
  const path = target.split("?")[0];
  if (path !== "/metrics" && path !== "/")
    return httpText("404 Not Found", "metrics are at /metrics\n", method === "GET");
  return httpText("200 OK", text(), method === "GET");
}

function httpText(status: string, body: string, withBody: boolean): string {
  const type = status.startsWith("200") ? PROMETHEUS_CONTENT_TYPE : "text/plain; charset=utf-8";
  const head = [
    `HTTP/1.1 ${status}`,
    `Content-Type: ${type}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  return `${head.join("\r\n")}\r\n\r\n${withBody ? body : ""}`;
}
