// Who has a function now: by its socket, or by the kernel's own descriptors.
import type { ServerEvent } from "ring3/vfio-user";
import type { ManagedOptions } from "./function-needs.ts";
import type { UserSession } from "./service-interface.ts";

/** A user, and that it is known to have the function. */
export interface Session extends UserSession {
  readonly opening: Disposable;
}

export interface SessionParts {
  readonly emit: ManagedOptions["emit"];
  /** A user has come by the socket; disposed when it leaves. */
  readonly opened: (user: { readonly pid: number; readonly uid: number }) => Disposable;
  /** The last user by the socket has left. */
  readonly emptied: () => void;
}

export class FunctionSessions {
  readonly #all: Session[] = [];
  readonly #parts: SessionParts;

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

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

  /** What happened at the socket. */
  heard(event: ServerEvent): void {
    const { emit, opened, emptied } = this.#parts;
    switch (event.type) {
      case "connected": {
        const { pid, uid, gid } = event;
        this.begin(event, opened(event));
        emit({ type: "opened", pid, uid, gid });
        return;
      }
      case "disconnected": {
        const session = this.end(event.pid);
        emit({ type: "closed", pid: event.pid, uid: session?.uid ?? -1, reason: event.reason });
        if (this.count === 0) emptied();
        return;
      }
      case "waiting":
        emit({ type: "waiting", pid: event.pid, uid: event.uid, ahead: event.ahead });
        return;
      case "refused":
        emit({ type: "refused", pid: event.pid, uid: event.uid, reason: event.reason });
        return;
      case "fault":
      case "error":
        emit({ type: "fault", description: event.description });
        return;
    }
  }
}
