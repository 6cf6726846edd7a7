// One function of the service through its life: taken from its driver, opened, put behind rules, served to one user after
// another, tried again when something fails, and given back. What it needs of the machine comes from outside.
import { messageOf, Ring3Error } from "ring3";
import type { MediationObserver } from "ring3/mediation";
import type { ConnectingPeer } from "ring3/vfio-user";
import { type BusMember, resetBus } from "./bus-reset.ts";
import type { FunctionSettings } from "./configuration.ts";
import { FunctionBinding } from "./function-binding.ts";
import type { Hardware, ManagedOptions } from "./function-needs.ts";
import { FunctionNotices } from "./function-notices.ts";
import { sameService } from "./function-rules.ts";
import { FunctionSessions, type Session } from "./function-sessions.ts";
import { Retry } from "./retry.ts";
import { type ServedFunction, serveFunction } from "./served-function.ts";
import type { FunctionState, FunctionStatus, Lease, UserPeer, UserSession } from "./service-interface.ts";
import { Turns } from "./turns.ts";

/** How long letting go may take once the grace time is over; then the function is closed, whatever its users do. */
const LET_GO_MS = 2000;

export class ManagedFunction implements BusMember {
  #settings: FunctionSettings;
  /** What is to hold once its present user has left. */
  #next: FunctionSettings | undefined;
  readonly #hardware: Hardware;
  readonly #emit: ManagedOptions["emit"];
  readonly #options: ManagedOptions;
  readonly #sessions: FunctionSessions;
  readonly notices: FunctionNotices;
  readonly #binding: FunctionBinding;
  readonly #retry: Retry = new Retry(() => void this.start());
  #served: ServedFunction | undefined;
  #state: "starting" | "up" | "failed" | "removed" | "stopping" = "starting";
  #reason: string | undefined;
  #ids: FunctionStatus["ids"];
  /** Takes the function from who has the kernel's own descriptors of it. */
  #wantedBack: (() => void) | undefined;
  /** Who had them last, until the function was opened again: it may keep them. */
  #borrower: UserPeer | undefined;
  /** The machine wants it back. */
  #removing = false;
  /** Everything that changes the function happens in turn. */
  readonly #turns: Turns = new Turns();

  constructor(settings: FunctionSettings, options: ManagedOptions) {
    this.#settings = settings;
    this.#options = options;
    this.#hardware = options.hardware;
    this.#emit = options.emit;
    this.#binding = new FunctionBinding(options);
    this.#sessions = new FunctionSessions({
      emit: options.emit,
      opened: (user) => this.notices.opened(user),
      emptied: () => void this.#turns.take(() => this.#afterUser()),
    });
    this.notices = new FunctionNotices(settings.name, options.notices, {
      emit: options.emit,
      reset: async () => await this.#up().mediated.resetByUser(),
      resetBus: (reason) => resetBus(this, options.members(), options.hardware, reason),
      disconnect: async (reason) => await this.#served?.server.disconnect(reason),
    });
  }

  get settings(): FunctionSettings {
    return this.#next ?? this.#settings;
  }

  get address(): string {
    return this.#settings.address;
  }

  get served(): ServedFunction | undefined {
    return this.#served;
  }

  get status(): FunctionStatus {
    const { name, address, socket, rules, lockLimit } = this.#settings;
    const served = this.#served;
    return {
      name,
      address,
      socket,
      state: this.#stateNow(),
      reason: served?.mediated.spoilt?.message ?? this.#reason,
      ids: this.#ids,
      rules,
      users: this.#sessions.users,
      waiting: served?.server.statistics.waiting ?? 0,
      lockedBytes: served?.mediated.lockedBytes ?? 0,
      lockLimit,
      trace: served?.trace,
      statistics: served?.server.statistics,
    };
  }

  /** Begins to serve; resolves after the first attempt. A failure is told, and tried again later. */
  start(): Promise<void> {
    return this.#turns.take(() => this.#attempt());
  }

  /** The machine has something new to say about the function: an attempt that waits is made now. */
  wake(event: "added" | "changed"): void {
    if (!this.#retry.waiting && !(this.#state === "removed" && event === "added")) return;
    this.#retry.shorten();
    void this.start();
  }

  /** Takes the function from its users; resolves with them, once it is reset. */
  async kick(reason: string): Promise<readonly UserSession[]> {
    const { users } = this.#sessions;
    this.#wantedBack?.();
    await this.#served?.server.disconnect(reason);
    return users;
  }

  /** Lends the kernel's own descriptors; while somebody has them the function is served to nobody. */
  lend(peer: UserPeer, wantedBack: () => void): Promise<Lease> {
    return this.#turns.take(async () => {
      const { name, address, handOver } = this.#settings;
      if (!handOver.has(peer.uid, peer.gid, peer.groups)) {
        throw new Ring3Error("PERMISSION_DENIED", `uid ${peer.uid} is not in hand-over of ${name}`, {
          errno: "EACCES",
        });
      }
      if (this.#state !== "up" || this.#sessions.count > 0) {
        const [user] = this.#sessions.users;
        const why = user === undefined ? this.#stateNow() : `in use by pid ${user.pid} (uid ${user.uid})`;
        throw new Ring3Error("FUNCTION_BUSY", `${name} is ${why}`, { errno: "EBUSY" });
      }
      await this.#bringDown();
      let lent: ReturnType<Hardware["lend"]>;
      try {
        lent = this.#hardware.lend(address);
      } catch (error) {
        await this.#attempt();
        throw error;
      }
      const session = this.#sessions.begin(peer, new DisposableStack());
      this.#wantedBack = wantedBack;
      this.#borrower = peer;
      this.#emit({ type: "fds-handed", pid: peer.pid, uid: peer.uid });
      return { address, ...lent, [Symbol.asyncDispose]: () => this.#turns.take(() => this.#returned(session)) };
    });
  }

  /** Begins a trace in the file `path`, or ends the one that there is; gives the file's path. */
  setTrace(path: string | undefined): string | undefined {
    return path === undefined ? this.#served?.endTrace() : this.#up().beginTrace(path);
  }

  /**
   * Takes other settings: who may use it counts at once, and whoever may not any more is disconnected; for the rest the
   * function is served anew, once its present user has left. Tells whether it waits for that.
   */
  reconfigure(settings: FunctionSettings): "same" | "changed" | "deferred" {
    const before = this.settings;
    if (sameService(before, settings) && before.users.equals(settings.users)) return "same";
    if (sameService(this.#settings, settings)) {
      this.#settings = settings;
      this.#next = undefined;
      if (this.#sessions.users.some(({ uid, gid }) => !settings.users.has(uid, gid))) {
        void this.kick("it may not use the function any more");
      }
      return "changed";
    }
    // Who may come in counts in the meantime, too.
    this.#settings = { ...this.#settings, users: settings.users };
    this.#next = settings;
    if (this.#sessions.count > 0) return "deferred";
    void this.#turns.take(() => this.#serveAnew());
    return "changed";
  }

  /** Disconnects its users, resets it, and gives it back to the driver that had it. */
  close(): Promise<void> {
    return this.#turns.take(async () => {
      this.#state = "stopping";
      this.#retry.cancel();
      await this.#bringDown();
      await this.#giveBack();
    });
  }

  // === Up and down =================================================================================================

  async #attempt(): Promise<void> {
    // What is lent comes back by itself.
    if (this.#state === "stopping" || this.#wantedBack !== undefined) return;
    this.#retry.cancel();
    try {
      if (this.#served === undefined) await this.#bringUp();
      else await this.#served.mediated.resetAgain();
    } catch (error) {
      const reason = this.#explained(error);
      await this.#bringDown();
      if ((error as { code?: unknown }).code === "FUNCTION_NOT_FOUND") this.#absent(reason);
      else this.#failed(reason);
      return;
    }
    this.#state = "up";
    this.notices.returned();
    this.#reason = undefined;
    this.#retry.shorten();
    this.#emit({ type: "ready" });
  }

  async #bringUp(): Promise<void> {
    const settings = this.#settings;
    const { name, address, socket, removalSeconds } = settings;
    this.#state = "starting";
    await this.#binding.take(settings);
    const real = await this.#hardware.open(address, { removalGraceMs: removalSeconds * 1000 + LET_GO_MS });
    this.#borrower = undefined;
    const { vendorId, deviceId, classCode } = real.identity;
    this.#ids = { vendorId, deviceId, classCode };
    const served = await serveFunction(real, settings, {
      observer: this.#observer(),
      admit: (peer) => this.#admit(peer),
      onEvent: (event) => this.#sessions.heard(event),
      listenFd: this.#options.listenFd?.(socket),
    });
    this.#served = served;
    this.#removing = false;
    const gone = (): void => this.#gone(served, `${name} was removed`);
    real.gone.addEventListener("abort", gone, { once: true });
    if (real.gone.aborted) gone();
  }

  async #bringDown(): Promise<void> {
    const served = this.#served;
    this.#served = undefined;
    try {
      await served?.[Symbol.asyncDispose]();
    } catch (error) {
      // A function that is gone may fail on its way out; what it held is closed all the same.
      this.#emit({ type: "fault", description: messageOf(error) });
    }
  }

  async #giveBack(): Promise<void> {
    try {
      await this.#binding.giveBack(this.#settings, this.#settings.removalSeconds * 1000 + LET_GO_MS);
    } catch (error) {
      this.#failed(`it was not given back: ${this.#explained(error)}`);
    }
  }

  /** Its present user has left, or there was none, and other settings hold from now on. */
  async #serveAnew(): Promise<void> {
    const next = this.#next;
    if (next === undefined || this.#state === "stopping") return;
    this.#next = undefined;
    await this.#bringDown();
    const { address, bind } = this.#settings;
    if (bind && (address !== next.address || !next.bind)) await this.#giveBack();
    this.#settings = next;
    await this.#attempt();
  }

  /** An error in words; who has a function open is not to be seen where /proc is hidden from the service. */
  #explained(error: unknown): string {
    const text = messageOf(error);
    const isHeld = ["BUSY", "FUNCTION_HELD"].includes(String((error as { code?: unknown }).code));
    if (!isHeld || this.#borrower === undefined) return text;
    const { pid, uid } = this.#borrower;
    return `${text}; its descriptors were lent to process ${pid} of uid ${uid}`;
  }

  #failed(reason: string): void {
    // The same again and again is told once.
    if (this.#reason !== reason) this.#emit({ type: "failed", reason });
    if (this.#state === "stopping") return;
    this.#state = "failed";
    this.#reason = reason;
    this.#retry.later();
  }

  /** The real function has ended; it is served again when the machine has it again. */
  #gone(served: ServedFunction, reason: string): void {
    if (this.#served !== served) return;
    void this.#turns.take(async () => {
      if (this.#served !== served) return;
      await this.#bringDown();
      this.#absent(reason);
    });
  }

  /** It is not there: it is served as soon as the machine tells of it. */
  #absent(reason: string): void {
    if (this.#state === "stopping") return;
    this.#state = "removed";
    this.#reason = reason;
    this.#emit({ type: "removed", reason });
  }

  // === Users =======================================================================================================

  #admit(peer: ConnectingPeer): void {
    const { name, users } = this.#settings;
    if (!users.has(peer.uid, peer.gid, peer.groups() ?? [])) {
      throw new Ring3Error(
        "PERMISSION_DENIED",
        `uid ${peer.uid} is not among the users of ${name}; an administrator can add it in the configuration of ring3d`,
        { errno: "EACCES" },
      );
    }
    this.notices.checkOpenable();
    // Whoever comes now would put off the new settings for as long as it stays.
    if (this.#state !== "up" || (this.#next !== undefined && this.#sessions.count === 0)) {
      throw new Ring3Error("FUNCTION_BUSY", `${name} is being set up anew; try again`, { errno: "EBUSY" });
    }
  }

  /** Whoever had the descriptors has given them back, or will have to: until then opening it again fails, and is tried again. */
  async #returned(session: Session): Promise<void> {
    if (this.#sessions.end(session) === undefined) return;
    this.#wantedBack = undefined;
    this.#emit({ type: "closed", pid: session.pid, uid: session.uid, reason: "the descriptors were given back" });
    if (this.#next === undefined) await this.#attempt();
    else await this.#serveAnew();
  }

  /** Nobody uses the function any more: what waited for that happens now. */
  async #afterUser(): Promise<void> {
    const served = this.#served;
    if (served === undefined || this.#sessions.count > 0) return;
    await served.mediated.settling;
    if (this.#served !== served || this.#sessions.count > 0) return;
    if (this.#removing) return;
    if (this.#next !== undefined) await this.#serveAnew();
    else if (served.mediated.spoilt !== undefined) this.#failed(served.mediated.spoilt.message);
  }

  #observer(): MediationObserver {
    return {
      reset: ({ cause, kind }) => this.#emit({ type: "reset", cause, kind }),
      rule: ({ rule, place, description }) => this.#emit({ type: "rule", rule, place, description }),
      dma: ({ kind, iova, size, reason = "" }) => {
        if (kind === "refused") this.#emit({ type: "dma-refused", iova, size, reason });
      },
      notice: ({ kind, description, reset }) => {
        if (kind === "fault") return;
        this.#emit({ type: "notice", notice: kind, outcome: description });
        if (kind === "removal-requested") void this.#removal(description);
        else if (kind === "error") this.notices.error(description);
        else if (kind === "recovered") this.notices.recovered(description, reset);
      },
    };
  }

  /** The machine waits for it: once nobody has it any more it is let go, long before the kernel would take it. */
  async #removal(description: string): Promise<void> {
    const served = this.#served;
    if (this.#removing) return;
    this.#removing = true;
    await this.notices.removal(this.#settings.removalSeconds * 1000, description);
    if (this.#served === served) await this.#turns.take(async () => await served?.real[Symbol.asyncDispose]());
  }

  #up(): ServedFunction {
    if (this.#served !== undefined) return this.#served;
    throw new Ring3Error("FUNCTION_BUSY", `${this.#settings.name} is not served now`, { errno: "EBUSY" });
  }

  #stateNow(): FunctionState {
    if (this.#state !== "up") return this.#state;
    if (this.#sessions.count > 0) return "used";
    return this.#served?.mediated.settling === undefined ? "ready" : "resetting";
  }
}
