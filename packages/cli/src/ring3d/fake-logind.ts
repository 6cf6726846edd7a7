// A logind on a message bus of its own, for tests: the real dbus-daemon, and a manager that gives locks and tells of sleeps.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileDescriptor, watch } from "ring3/linux";
import { DbusConnection } from "./dbus/connection.ts";
import type { DbusMessage } from "./dbus/message.ts";

const NAME = "org.freedesktop.login1";
const PATH = "/org/freedesktop/login1";
const CONFIGURATION = (address: string): string => `<busconfig>
  <listen>${address}</listen><auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
  <allow receive_sender="*"/></policy></busconfig>`;

/** A dbus-daemon with a socket in a folder of its own. */
export class TestBus implements AsyncDisposable {
  readonly socket: string;
  readonly #folder: string;
  readonly #daemon: ChildProcess;

  private constructor(folder: string, daemon: ChildProcess) {
    this.#folder = folder;
    this.socket = join(folder, "bus");
    this.#daemon = daemon;
  }

  static async start(): Promise<TestBus> {
    const folder = mkdtempSync(join(tmpdir(), "ring3-bus-"));
    const configuration = join(folder, "bus.conf");
    writeFileSync(configuration, CONFIGURATION(`unix:path=${join(folder, "bus")}`));
    const words = [`--config-file=${configuration}`, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1"];
    const daemon = spawn("dbus-daemon", words, { stdio: ["ignore", "pipe", "ignore"] });
    const bus = new TestBus(folder, daemon);
    await once(daemon.stdout, "data");
    return bus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#daemon.exitCode === null && this.#daemon.signalCode === null) {
      this.#daemon.kill();
      await once(this.#daemon, "exit");
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

interface GivenLock {
  readonly what: string;
  readonly who: string;
  readonly why: string;
  readonly mode: string;
}

export class FakeLogind implements Disposable {
  /** The locks that are held now. */
  readonly locks: Set<GivenLock> = new Set();
  /** Refuses further locks, as a policy or the limit of them does. */
  refuses = false;
  readonly #connection: DbusConnection;
  readonly #waiting: Set<() => void> = new Set();

  private constructor(connection: DbusConnection) {
    this.#connection = connection;
  }

  static async start(bus: TestBus): Promise<FakeLogind> {
    let answer: (message: DbusMessage) => void = () => undefined;
    const connection = await DbusConnection.connect(bus.socket, (message) => answer(message));
    const fake = new FakeLogind(connection);
    answer = (message) => fake.#called(message);
    const body = [NAME, 4];
    const destination = "org.freedesktop.DBus";
    const path = "/org/freedesktop/DBus";
    await connection.call({ destination, path, interface: destination, member: "RequestName", signature: "su", body });
    return fake;
  }

  /** Resolves once `condition` holds of the locks; it is looked at when one is given or ends. */
  async until(condition: (modes: readonly string[]) => boolean): Promise<void> {
    while (!condition(Array.from(this.locks, ({ mode }) => mode).sort())) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  prepareForSleep(begins: boolean): void {
    const interfaceName = `${NAME}.Manager`;
    const signal = { path: PATH, interface: interfaceName, member: "PrepareForSleep", signature: "b", body: [begins] };
    this.#connection.send({ type: "signal", ...signal });
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  #called({ type, member, body, sender = "", serial: replySerial }: DbusMessage): void {
    if (type !== "call") return;
    const to = { destination: sender, replySerial };
    if (member === "Get") this.#connection.send({ type: "return", ...to, signature: "v", body: [5_000_000n] });
    else if (member === "Inhibit" && !this.refuses) this.#inhibit(body.map(String), to);
    else {
      const errorName = "org.freedesktop.DBus.Error.AccessDenied";
      this.#connection.send({ type: "error", ...to, errorName, signature: "s", body: ["Permission denied"] });
    }
  }

  #inhibit([what = "", who = "", why = "", mode = ""]: readonly string[], to: object): void {
    const lock = { what, who, why, mode };
    const { read, write } = FileDescriptor.pipe();
    this.locks.add(lock);
    this.#connection.send({ type: "return", ...to, signature: "h", body: [0] }, [write]);
    write.close();
    const end = watch(
      read,
      () => {
        end[Symbol.dispose]();
        read.close();
        this.locks.delete(lock);
        this.#changed();
      },
      { keepsAlive: false },
    );
    this.#changed();
  }

  #changed(): void {
    for (const resolve of Array.from(this.#waiting)) resolve();
    this.#waiting.clear();
  }
}
