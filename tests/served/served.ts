// A device that `ring3 serve` serves in a process of its own, as a user starts it, and what QEMU and the tests need of it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const COMMAND = join(import.meta.dirname, "../../packages/cli/src/main.ts");
const READY_TIMEOUT_MS = 60_000;
const IDLE_TIMEOUT_MS = 20_000;

/** QEMU's arguments for the function that is served at `path`, behind the root port `port`. */
export function vfioUserDevice(port: string, path: string): string[] {
  const socket = { type: "unix", path };
  return ["-device", JSON.stringify({ driver: "vfio-user-pci", bus: port, socket })];
}

/** A running server. Disposal ends it. */
export class Served implements AsyncDisposable {
  /** The sockets that it serves at, in the order of the command line. */
  readonly sockets: readonly string[];
  readonly #child: ChildProcess;
  readonly #exited: Promise<[number | null, NodeJS.Signals | null]>;
  readonly #folder: string;
  #errors = "";
  /** Its descriptors before the first client came. */
  #descriptors: readonly string[] = [];

  private constructor(child: ChildProcess, folder: string, sockets: readonly string[]) {
    this.#child = child;
    this.#folder = folder;
    this.sockets = sockets;
    this.#exited = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
    child.stderr?.setEncoding("utf8").on("data", (data: string) => (this.#errors += data));
  }

  /**
   * Starts `ring3 serve` with `words` and as many sockets, and waits until it says that it is ready. The sockets are those of
   * `former`, where that is given.
   */
  static async start(words: readonly string[], sockets = 1, former?: Served): Promise<Served> {
    const folder = former !== undefined ? former.#folder : mkdtempSync(join(tmpdir(), "ring3-served-"));
    const paths = Array.from({ length: sockets }, (_, i) => join(folder, `${i}.sock`));
    const places = [...paths.flatMap((path) => ["--socket", path]), "--metrics", join(folder, "metrics")];
    const child = spawn(process.execPath, [COMMAND, "serve", ...words, ...places, "--log", "-"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const served = new Served(child, folder, paths);
    const ended = served.#exited.then(([code]) => {
      throw new Error(`ring3 serve ended with ${code}:\n${served.#errors}`);
    });
    ended.catch(() => undefined);
    const late = AbortSignal.timeout(READY_TIMEOUT_MS);
    try {
      await Promise.race([once(child.stdout as NodeJS.ReadableStream, "data", { signal: late }), ended]);
      child.stdout?.resume();
      served.#descriptors = served.descriptors();
      return served;
    } catch (error) {
      await served[Symbol.asyncDispose]();
      throw error;
    }
  }

  get socket(): string {
    return this.sockets[0] as string;
  }

  /** What it logged: one JSON object a line. */
  get log(): string {
    return this.#errors;
  }

  /** The events of that name in its log. */
  events(name: string): Record<string, unknown>[] {
    const lines = this.#errors.split("\n").slice(0, -1);
    const events = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as { event: string });
    return events.filter(({ event }) => event === name);
  }

  /** Resolves when `count` events of that name are in its log. */
  async logs(name: string, count: number): Promise<void> {
    const late = AbortSignal.timeout(IDLE_TIMEOUT_MS);
    while (this.events(name).length < count) {
      await once(this.#child.stderr as NodeJS.ReadableStream, "data", { signal: late }).catch((error: unknown) => {
        throw new Error(`no ${count} events "${name}" in the log:\n${this.log}`, { cause: error });
      });
    }
  }

  /** What its descriptors are, without numbers: `socket`, `anon_inode:[eventfd]`, paths. */
  descriptors(): string[] {
    const folder = `/proc/${this.#child.pid}/fd`;
    const links = readdirSync(folder).flatMap((name) => {
      try {
        return [readlinkSync(join(folder, name))];
      } catch {
        return []; // closed since
      }
    });
    return links.map((link) => link.replace(/:\[\d+\]$/, "")).sort();
  }

  /** Files of other processes' memory that it has mapped. */
  foreignMemory(): string[] {
    const lines = readFileSync(`/proc/${this.#child.pid}/maps`, "utf8").split("\n");
    return lines.filter((line) => line.includes("memfd:") && !line.includes("memfd:ring3"));
  }

  /**
   * Waits until each of its functions has lost `clients` clients, then asserts that nothing of them is left: no map,
   * descriptor or interrupt.
   */
  async isClean(clients = 1): Promise<void> {
    await this.logs("disconnected", clients * this.sockets.length);
    assert.deepEqual(this.descriptors(), this.#descriptors);
    assert.deepEqual(this.foreignMemory(), []);
    const metrics = await this.metrics();
    for (const socket of this.sockets) {
      for (const name of ["ring3_connected", "ring3_dma_maps", "ring3_dma_mapped_bytes"]) {
        assert.equal(metrics.get(`${name}{socket="${socket}"}`), 0, name);
      }
    }
  }

  /** One of its counters, of the served function number `index`. */
  async metric(name: string, index = 0): Promise<number> {
    return (await this.metrics()).get(`ring3_${name}{socket="${this.sockets[index]}"}`) ?? 0;
  }

  /** QEMU's arguments for the served function number `index` behind the root port `port`. */
  qemu(port: string, index = 0): string[] {
    return vfioUserDevice(port, this.sockets[index] ?? "");
  }

  /** Its counters, by name with labels, as Prometheus reads them. */
  async metrics(): Promise<Map<string, number>> {
    // Saying at once that nothing will be asked: the server would wait a moment for that.
    const connection = createConnection({ path: join(this.#folder, "metrics"), allowHalfOpen: true }).end();
    const lines = (await text(connection)).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(
      lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
    );
  }

  /** How many commands of that name it sent, to the function number `index`. */
  async command(name: string, index = 0): Promise<number> {
    const labels = `socket="${this.sockets[index]}",command="${name}"`;
    return (await this.metrics()).get(`ring3_commands_sent_total{${labels}}`) ?? 0;
  }

  /** Asks it to end, and gives its exit code. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | null> {
    this.#child.kill(signal);
    return (await this.#exited)[0];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
