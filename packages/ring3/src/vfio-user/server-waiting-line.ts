// Clients that asked for a function and hear nothing until they have it: first come, first served, for as long as they may.
import type { Session } from "./server-session.ts";

interface Place {
  readonly session: Session;
  readonly timer: NodeJS.Timeout | undefined;
}

export class WaitingLine {
  readonly #places: Place[] = [];

  get length(): number {
    return this.#places.length;
  }

  /** In the order in which they came. */
  get sessions(): readonly Session[] {
    return this.#places.map(({ session }) => session);
  }

  /** Calls `late` where it is still there after `atMostMs`; without that it waits as long as its client likes. */
  add(session: Session, atMostMs: number | undefined, late: () => void): void {
    const timer = atMostMs === undefined ? undefined : setTimeout(late, atMostMs);
    timer?.unref();
    this.#places.push({ session, timer });
  }

  /** `false` where it is not there. */
  remove(session: Session): boolean {
    const index = this.#places.findIndex((place) => place.session === session);
    if (index < 0) return false;
    clearTimeout(this.#places[index]?.timer);
    this.#places.splice(index, 1);
    return true;
  }
}
