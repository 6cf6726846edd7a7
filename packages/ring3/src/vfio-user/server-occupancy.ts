// Who has a function: one client, or several of one user. Each has memory and signals of its own; the function is one, and what
// it shows in its BARs, its resets and its errors are everybody's.
import type { Ring3Error } from "../binary/error.ts";
import type { PeerCredentials } from "../linux/index.ts";
import type { VirtualFunction } from "../virtual/function.ts";
import { Notices } from "./server-notices.ts";
import { refusal } from "./server-refusal.ts";
import { SharedBars } from "./server-shared-bars.ts";

/** A client that has the function. */
export interface Occupant {
  readonly peer: PeerCredentials;
  /** Somebody on the stack is at work for it. */
  readonly busy: boolean;
  /** It is taking the function's state to another server, or bringing it. */
  readonly moving: boolean;
  /** Whether it is gone, which the event loop may not have told yet. */
  hungUp(): boolean;
  /** Takes the function from it. Resolves when that is done. */
  end(reason: string): Promise<void>;
}

export class Occupancy {
  readonly bars: SharedBars = new SharedBars();
  readonly notices: Notices;
  readonly #openings: number;
  readonly #occupants = new Set<Occupant>();
  #pause: Promise<void> | undefined;

  /** `openings`: clients at a time. */
  constructor(fn: VirtualFunction, openings: number) {
    this.notices = new Notices(fn.interrupts);
    this.#openings = openings;
  }

  /** In the order in which they came. */
  get occupants(): readonly Occupant[] {
    return [...this.#occupants];
  }

  get count(): number {
    return this.#occupants.size;
  }

  /** Whether nobody is there but one client, or not even that. */
  get alone(): boolean {
    return this.#occupants.size <= 1;
  }

  /** Whether others may come while a client is there. */
  get shared(): boolean {
    return this.#openings > 1;
  }

  get busy(): boolean {
    for (const { busy } of this.#occupants) if (busy) return true;
    return false;
  }

  /** Resolves once a reset that takes its time is over; until then nobody's commands reach the function. It never rejects. */
  get pause(): Promise<void> | undefined {
    return this.#pause;
  }

  /** A client's reset takes its time. */
  resetting(reset: Promise<unknown>): void {
    const over = (): void => {
      if (this.#pause === pause) this.#pause = undefined;
    };
    const pause = reset.then(over, over);
    this.#pause = pause;
  }

  /** Who has the function, in words; `undefined` where nobody does. */
  get use(): string | undefined {
    const [first] = this.#occupants;
    return first && `the function is in use by pid ${first.peer.pid} (uid ${first.peer.uid})`;
  }

  /** Why a client cannot have the function now; `undefined` where it can. */
  objection(peer: PeerCredentials): Ring3Error | undefined {
    // Some may be gone already.
    for (const occupant of this.occupants) occupant.hungUp();
    const { use } = this;
    const [first] = this.#occupants;
    if (use === undefined) return undefined;
    if (this.#openings === 1) return refusal("EBUSY", `${use}; it has one client at a time`);
    if (peer.uid !== first?.peer.uid) return refusal("EBUSY", `${use}; it has clients of one user at a time`);
    if (this.count >= this.#openings) {
      return refusal("EBUSY", `${use}, and with ${this.count} clients; more are not let in at a time`);
    }
    const mover = this.occupants.find(({ moving }) => moving);
    if (mover === undefined) return undefined;
    return refusal("EBUSY", `pid ${mover.peer.pid} is moving the function to another server`);
  }

  has(occupant: Occupant): boolean {
    return this.#occupants.has(occupant);
  }

  enter(occupant: Occupant): void {
    this.#occupants.add(occupant);
  }

  /** It has cleaned up after itself: `false` where it never had the function. */
  leave(occupant: Occupant): boolean {
    const was = this.#occupants.delete(occupant);
    if (this.#occupants.size === 0) this.bars[Symbol.dispose]();
    return was;
  }
}
