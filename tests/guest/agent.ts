// The rig's hand inside the guest, run as root by init.sh: it runs what the host asks for over the second serial port,
// and lets tests in the guest ask for root commands and for QMP over a UNIX socket.
// It lives in memory and on the serial port only, so that it survives a suspend to RAM, which the share does not.
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { release } from "node:os";
import { ReadStream, WriteStream } from "node:tty";
import { bind, bindStandard } from "./bindings.ts";
import type { ToGuest, ToHost } from "./protocol.ts";
import { type HostRequest, type InsideRequest, LineReader, PieceReader, type RunRequest, SOCKET } from "./protocol.ts";

const PATH = "/bin";
const OUTPUT_LIMIT = 32 * 1024;

const line = openSync("/dev/ttyS1", "r+");
const input = new ReadStream(line);
const output = new WriteStream(line);
const jobs = new Map<number, ChildProcess>();
const questions = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
let lastQuestion = 0;
/** Prints an empty line for every uevent of the kernel. */
const uevents = spawn("uevent", ["echo"], { stdio: ["ignore", "pipe", "inherit"] })
  .stdout.setMaxListeners(0)
  .resume();

function send(message: ToHost): void {
  output.write(`${JSON.stringify(message)}\n`);
}

function start(request: RunRequest): ChildProcess {
  const [program = "true", ...args] = request.argv;
  const child = spawn(program, args, {
    cwd: request.cwd,
    env: { PATH, TERM: "linux", LANG: "C.UTF-8", HOME: request.uid === 0 ? "/root" : "/home/user", ...request.env },
    uid: request.uid,
    gid: request.gid,
    stdio: ["pipe", "pipe", "pipe"],
    // Its own process group, so that a kill takes its children along.
    detached: true,
  });
  child.stdin?.on("error", () => undefined).end(request.input);
  child.stdout?.setEncoding("utf8");
  child.stderr?.setEncoding("utf8");
  return child;
}

function run(id: number, request: RunRequest): void {
  const child = start(request);
  jobs.set(id, child);
  const forward = (stream: "stdout" | "stderr") => (text: string) => {
    for (let at = 0; at < text.length; at += OUTPUT_LIMIT) {
      send({ op: "output", id, stream, text: text.slice(at, at + OUTPUT_LIMIT) });
    }
  };
  child.stdout?.on("data", forward("stdout"));
  child.stderr?.on("data", forward("stderr"));
  child.once("error", (error) => {
    jobs.delete(id);
    send({ op: "failed", id, message: error.message });
  });
  child.once("close", (code, signal) => {
    if (jobs.delete(id)) send({ op: "exit", id, code, signal });
  });
}

function kill(id: number, signal: string): void {
  const pid = jobs.get(id)?.pid;
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // It ended by itself meanwhile.
  }
}

function receive(message: ToGuest): void {
  switch (message.op) {
    case "run":
      return run(message.id, message);
    case "kill":
      return kill(message.id, message.signal);
    case "bind":
      return send({ op: "bound", id: message.id, problems: bindStandard() });
    case "answer":
      questions.get(message.id)?.(message);
      questions.delete(message.id);
  }
}

/** Asks the host; the answer comes as a message. */
function ask(what: HostRequest): Promise<unknown> {
  const id = ++lastQuestion;
  return new Promise((resolve, reject) => {
    questions.set(id, ({ value, error }) => (error === undefined ? resolve(value) : reject(new Error(error))));
    send({ op: "ask", id, what });
  });
}

/** Runs a shell command as root for a test. */
function asRoot(command: string, text: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const child = start({ argv: ["sh", "-c", command], uid: 0, gid: 0, cwd: "/", env: {}, input: text });
    let stdout = "";
    let stderr = "";
    child.stdout?.on("data", (data: string) => (stdout += data));
    child.stderr?.on("data", (data: string) => (stderr += data));
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Resolves when a function is there, or gone; the kernel's uevents say when to look. */
function awaitFunction(address: string, present: boolean): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = (): void => {
    if (existsSync(`/sys/bus/pci/devices/${address}`) !== present) return;
    uevents.off("data", look);
    resolve();
  };
  uevents.on("data", look);
  look();
  return promise;
}

async function answer(request: InsideRequest): Promise<unknown> {
  switch (request.kind) {
    case "root":
      return await asRoot(request.command, request.input);
    case "bind":
      return bind(request.address, request.driver, request.uid);
    case "standard":
      return bindStandard();
    case "await":
      return await awaitFunction(request.address, request.present);
    default:
      return await ask(request);
  }
}

function serve(socket: Socket): void {
  const lines = new LineReader();
  socket.setEncoding("utf8");
  socket.on("error", () => socket.destroy());
  socket.on("data", (text: string) => {
    lines.push(text, (request) => {
      answer(JSON.parse(request) as InsideRequest).then(
        (value) => socket.end(`${JSON.stringify({ value })}\n`),
        (error: unknown) =>
          socket.end(`${JSON.stringify({ error: error instanceof Error ? error.message : error })}\n`),
      );
    });
  });
}

const lines = new LineReader();
const reader = new PieceReader();
input.setEncoding("latin1");
input.on("data", (text: string) => {
  lines.push(text, (piece) => {
    const message = reader.read(piece, () => send({ op: "more" }));
    if (message !== undefined) receive(message);
  });
});
input.once("close", () => closeSync(line));

createServer({ allowHalfOpen: true }, serve).listen(SOCKET, () => {
  chmodSync(SOCKET, 0o666);
  send({ op: "hello", release: release(), uptimeMs: Math.round(process.uptime() * 1000) });
});
