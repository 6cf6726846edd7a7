// What a function over a socket outlives: a server that went away and came back, and a move to another server. Memory,
// windows, config space and interrupts are the same to the driver afterwards; the order in which the new server hears of
// them is what is hard.
import { setTimeout as delay } from "node:timers/promises";
import { isRing3Error, Ring3Error } from "../binary/error.ts";
import type { ConfigSpace } from "../pci/config-space.ts";
import { closedError } from "../pci/ending.ts";
import type { FunctionIdentity } from "../pci/function.ts";
import type { WatchedConfigAccess } from "../pci/watched-config.ts";
import type { ServedRegion } from "./client-bar.ts";
import type { CommandServer } from "./client-channel.ts";
import type { ServedConfig } from "./client-config.ts";
import type { ServedDevice } from "./client-device.ts";
import type { VfioUserDmaSpace } from "./client-dma.ts";
import type { VfioUserInterrupts } from "./client-interrupts.ts";
import { Migration } from "./client-migration.ts";
import { closeSession, openSession, type Session, type SessionOptions } from "./client-session.ts";
import { Region } from "./messages.ts";

/** How a lost connection is made again. */
export interface ReconnectOptions {
  /** Tries at most; no bound by default. */
  readonly attempts?: number;
  /** Gives up after this time; 30,000 ms by default. */
  readonly timeoutMs?: number;
}

/** Where a row of tries stands. */
interface Retries {
  attemptsLeft: number;
  readonly until: number;
  waitMs: number;
}

const FIRST_RETRY_MS = 5;
const LONGEST_RETRY_MS = 250;
/** How long a register that is read while the server is away may hold up the thread. */
const LONGEST_WAIT_MS = 1000;

/** The function's parts that get another server, and what is done in its name. */
export interface ContinuityParts {
  readonly session: SessionOptions;
  readonly reconnect: ReconnectOptions | undefined;
  readonly device: ServedDevice;
  readonly requests: CommandServer;
  readonly served: ServedConfig;
  readonly access: WatchedConfigAccess;
  readonly config: ConfigSpace;
  readonly dma: VfioUserDmaSpace;
  readonly interrupts: VfioUserInterrupts;
  readonly regions: readonly ServedRegion[];
  readonly migration: Migration;
  readonly identity: FunctionIdentity;
  readonly resettable: boolean;
  armSignals(): void;
  /** The connection in use ended. */
  lost(reason: Ring3Error): void;
  recovered(description: string): void;
  remove(why: string): Promise<void>;
  /** Whether the function is closed or being closed. */
  over(): boolean;
}

export class Continuity {
  /** Where the function is served now. */
  path: string;
  /** Whether a connection is being made at this moment. */
  connecting = false;
  readonly #parts: ContinuityParts;

  constructor(path: string, parts: ContinuityParts) {
    this.path = path;
    this.#parts = parts;
  }

  /** See `VfioUserFunction.moveTo`. */
  moveTo(path: string): void {
    const target = this.#openSession(path);
    let stopped = false;
    try {
      this.#checkSame(target);
      this.#parts.dma.showTo(target.device);
      stopped = true;
      const state = this.#parts.migration.save();
      new Migration(target.device).restore(state);
      this.#checkIdentity(target.device);
      this.#adoptRegions(target, true);
    } catch (error) {
      closeSession(target.device.channel, target.regions, target.doorbells, closedError(path));
      if (stopped) this.#goOn();
      throw error;
    }
    const former = this.#parts.device.channel;
    this.#parts.device.adopt(target.device);
    this.#parts.device.channel.isFinal = former.isFinal;
    former.close(closedError(this.path));
    this.path = path;
    try {
      this.#parts.served.restore();
      this.#parts.interrupts.connectAgain();
      this.#parts.armSignals();
      this.#parts.device.channel.watch();
      this.#parts.migration.setState("running");
    } catch (error) {
      // There is no way back: the state was given away.
      void this.#parts.remove(`it could not go on at ${path}: ${String(error)}`);
      throw error;
    }
  }

  /** Has the present server run the device again; where it does not, that shows in the device. */
  #goOn(): void {
    try {
      this.#parts.migration.setState("running");
    } catch (error) {
      if (!isRing3Error(error)) throw error;
    }
  }

  #openSession(path: string): Session {
    let session: Session | undefined;
    session = openSession(path, this.#parts.session, this.#parts.requests, (reason) => {
      if (session?.device.channel === this.#parts.device.channel) this.#parts.lost(reason);
    });
    return session;
  }

  /** Tries until the server is back, time is up or the function over; removes the function then. */
  async reconnect(why: string): Promise<void> {
    const retries = this.#retries();
    while (this.#parts.device.channel.dead !== undefined && !this.#parts.over()) {
      const waitMs = this.#tryAgain(retries);
      if (waitMs === "given up") {
        await this.#parts.remove(`${why}; it could not be connected again`);
        return;
      }
      if (waitMs > 0) await delay(waitMs);
    }
  }

  /** As {@link reconnect} for a register that is read: the thread waits, though not for long. */
  reconnectNow(): boolean {
    if (this.connecting || this.#parts.over()) return false;
    const retries = this.#retries(LONGEST_WAIT_MS);
    while (this.#parts.device.channel.dead !== undefined) {
      const waitMs = this.#tryAgain(retries);
      if (waitMs === "given up") return false;
      if (waitMs > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, waitMs);
    }
    return true;
  }

  #retries(atMostMs = Infinity): Retries {
    const { attempts = Infinity, timeoutMs = 30_000 } = this.#parts.reconnect ?? {};
    const until = performance.now() + Math.min(timeoutMs, atMostMs);
    return { attemptsLeft: attempts, until, waitMs: FIRST_RETRY_MS };
  }

  /** One try. Returns how long to wait before the next, 0 where it worked. */
  #tryAgain(retries: Retries): number | "given up" {
    retries.attemptsLeft--;
    try {
      this.#connectAgain();
      return 0;
    } catch (error) {
      if (!isRing3Error(error)) throw error;
      const { waitMs, until, attemptsLeft } = retries;
      if (error.code === "DEVICE_CHANGED" || attemptsLeft <= 0 || performance.now() + waitMs > until) return "given up";
      retries.waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
      return waitMs;
    }
  }

  /** Everything that the driver has comes back at the same place: memory, windows, config space, interrupts. */
  #connectAgain(): void {
    if (this.connecting) throw new Ring3Error("CONNECTION_LOST", "the connection is being made again");
    this.connecting = true;
    try {
      const session = this.#openSession(this.path);
      let kept: boolean;
      try {
        this.#checkSame(session);
        this.#checkIdentity(session.device);
        kept = this.#parts.served.keptBy(session.device);
        this.#parts.dma.showTo(session.device);
        this.#adoptRegions(session, kept);
      } catch (error) {
        closeSession(session.device.channel, session.regions, session.doorbells, closedError(this.path));
        throw error;
      }
      this.#parts.device.adopt(session.device);
      this.#resume(kept);
    } finally {
      this.connecting = false;
    }
  }

  #resume(kept: boolean): void {
    const { channel } = this.#parts.device;
    try {
      this.#parts.config.invalidate();
      // What the parts below write to COMMAND is added to what the driver had written.
      this.#parts.served.restore();
      this.#parts.interrupts.connectAgain();
      this.#parts.armSignals();
      this.#parts.access.followState();
      channel.watch();
    } catch (error) {
      channel.close(error instanceof Ring3Error ? error : closedError(this.path));
      throw error;
    }
    // What was signalled while nobody listened is lost, so everybody looks once.
    this.#parts.interrupts.wakeAll();
    const description = kept
      ? "the vfio-user server is back and has kept the function's state"
      : "the vfio-user server is back; the function's registers are as after a reset";
    queueMicrotask(() => this.#parts.recovered(description));
  }

  #checkSame({ info, regions }: Session): void {
    const same = regions.every((region, i) => i >= Region.ROM || region.size === (this.#parts.regions[i]?.size ?? 0));
    if (same && info.resettable === this.#parts.resettable) return;
    throw new Ring3Error("DEVICE_CHANGED", "another device is served there now; open the function anew");
  }

  #checkIdentity(device: ServedDevice): void {
    const { vendorId, deviceId } = this.#parts.identity;
    const id = device.tryRead(Region.CONFIG, 0, 4);
    if (id === (vendorId | (deviceId << 16)) >>> 0) return;
    throw new Ring3Error("DEVICE_CHANGED", "another device is served there now; open the function anew");
  }

  /** With `keepBytes` mapped memory holds in the new server what it held in the former. */
  #adoptRegions({ regions, doorbells }: Session, keepBytes: boolean): void {
    // All are looked at before one is changed.
    for (const [i, region] of this.#parts.regions.entries()) region.checkSame(regions[i]);
    for (const [i, region] of this.#parts.regions.entries()) {
      const other = regions[i];
      if (other !== undefined) region.adopt(other, keepBytes);
      region.useDoorbells(doorbells.get(i) ?? []);
    }
  }
}
