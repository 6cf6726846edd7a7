// Who has a function now: by its socket, or by the kernel's own descriptors.
import type { UserSession } from "./service-interface.ts";

/** A user, and that it is known to have the function. */
export interface Session extends UserSession {
  readonly opening: Disposable;
}

export class FunctionSessions {
  readonly #all: Session[] = [];

  get count(): number {
    return this.#all.length;
  }

  /** As others may see them. */
  get users(): readonly UserSession[] {
    return this.#all.map(({ pid, uid, gid, sinceMs }) => ({ pid, uid, gid, sinceMs }));
  }

  /** From now on; `opening` is disposed at the end. */
  begin({ pid, uid, gid }: Omit<UserSession, "sinceMs">, opening: Disposable): Session {
    const session = { pid, uid, gid, sinceMs: Date.now(), opening };
    this.#all.push(session);
    return session;
  }

  /** Ends this one, or one of a process; `undefined` where there is none. */
  end(which: Session | number): Session | undefined {
    const at = this.#all.findIndex((session) => session === which || session.pid === which);
    const [session] = at < 0 ? [] : this.#all.splice(at, 1);
    session?.opening[Symbol.dispose]();
    return session;
  }
}
