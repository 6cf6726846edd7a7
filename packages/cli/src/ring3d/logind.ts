// What systemd's logind has to do with a machine's sleep, over the system bus: locks that delay or forbid it, and the word that
// it is about to begin, or over (org.freedesktop.login1(5)).
import type { FileDescriptor } from "ring3/linux";
import { DbusConnection } from "./dbus/connection.ts";
import type { DbusMessage } from "./dbus/message.ts";

const SYSTEM_BUS = "/run/dbus/system_bus_socket";
const MANAGER = {
  destination: "org.freedesktop.login1",
  path: "/org/freedesktop/login1",
  interface: "org.freedesktop.login1.Manager",
} as const;
const MATCH = `type='signal',sender='${MANAGER.destination}',interface='${MANAGER.interface}',member='PrepareForSleep',path='${MANAGER.path}'`;

/** `delay`: a sleep waits for the lock's end, for a few seconds. `block`: nobody can ask for one. */
export type SleepLockMode = "delay" | "block";

/** A connection to logind. Locks end with the process, and with their disposal. */
export interface Logind extends Disposable {
  /** How long logind waits for locks that delay, in milliseconds. */
  readonly delayMs: number;
  /** Aborts when the connection to the bus has ended. Locks stay. */
  readonly ended: AbortSignal;
  lock(mode: SleepLockMode, why: string): Promise<Disposable>;
}

/**
 * Connects to logind by the bus at the socket `bus`; `onSleep` hears `true` when the machine is about to sleep, and `false`
 * when it has slept, or did not get to. Rejects with `DbusError`, or `SYSTEM_CALL` where there is no bus.
 */
export async function connectLogind(onSleep: (begins: boolean) => void, bus: string = SYSTEM_BUS): Promise<Logind> {
  const connection = await DbusConnection.connect(bus, (message) => {
    if (isPrepareForSleep(message)) onSleep(message.body[0] === true);
  });
  try {
    await connection.addMatch(MATCH);
    const { body } = await connection.call({
      ...MANAGER,
      interface: "org.freedesktop.DBus.Properties",
      member: "Get",
      signature: "ss",
      body: [MANAGER.interface, "InhibitDelayMaxUSec"],
    });
    return new BusLogind(connection, Number(body[0]) / 1000);
  } catch (error) {
    connection[Symbol.dispose]();
    throw error;
  }
}

function isPrepareForSleep({ type, interface: name, member, signature }: DbusMessage): boolean {
  return type === "signal" && name === MANAGER.interface && member === "PrepareForSleep" && signature === "b";
}

class BusLogind implements Logind {
  readonly delayMs: number;
  readonly #connection: DbusConnection;

  constructor(connection: DbusConnection, delayMs: number) {
    this.#connection = connection;
    this.delayMs = delayMs;
  }

  get ended(): AbortSignal {
    return this.#connection.ended;
  }

  async lock(mode: SleepLockMode, why: string): Promise<Disposable> {
    const body = ["sleep", "ring3d", why, mode];
    const { fds } = await this.#connection.call({ ...MANAGER, member: "Inhibit", signature: "ssss", body });
    const [lock, ...more] = fds as readonly (FileDescriptor | undefined)[];
    for (const fd of more) fd?.close();
    if (lock === undefined) throw new TypeError("logind gave a lock without its descriptor");
    return lock;
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}
