// The service's events as lines for people and programs who watch it: names beside uids, who has the function where its user is
// the cause, and within a budget. Hard part: most events are caused by users, who must not fill a disk or slow the service down
// by them: each function and kind has a budget of lines, and what goes beyond is counted.
import { LineBudget, type LineBudgetOptions } from "./line-budget.ts";
import type { Service, ServiceEvent } from "./service-interface.ts";

interface Person {
  readonly pid: number;
  readonly uid: number;
}

/** The name of a uid, where it has one. */
export type NameOf = (uid: number) => string | undefined;

export interface EventLinesOptions {
  readonly nameOf: NameOf;
  /** Lines of each function and kind. */
  readonly budget?: LineBudgetOptions | undefined;
}

export type EventFacts = Readonly<Record<string, unknown>>;

/** Gives `write` the events of `service` until disposed: the event's name, and its facts as docs/ring3d-audit.schema.json. */
export function eventLines(
  service: Pick<Service, "functions" | "on">,
  write: (event: string, facts: EventFacts) => void,
  { nameOf, budget: lines }: EventLinesOptions,
): Disposable {
  const resources = new DisposableStack();
  const leftOut = (key: string, count: number): void => {
    const [of, fn, uid] = key.split("\0");
    write("left-out", {
      function: fn || undefined,
      of: of || undefined,
      uid: uid ? Number(uid) : undefined,
      lines: count,
    });
  };
  const budget = resources.use(new LineBudget(leftOut, lines));
  const present = new PresentUsers(service);
  const onEvent = (event: ServiceEvent): void => {
    if (budget.admits(keyOf(event))) write(event.type, factsOf(event, present, nameOf));
    present.follow(event);
  };
  resources.use(service.on(onEvent));
  return resources;
}

/**
 * Users who have a function have budgets of their own, so that none of them hides another. Those who are refused share one,
 * since anybody may come with as many uids as a user namespace has.
 */
function keyOf(event: ServiceEvent): string {
  const own = event.type === "opened" || event.type === "closed" || event.type === "fds-handed";
  return `${event.type}\0${"function" in event ? event.function : ""}\0${own ? event.uid : ""}`;
}

/** An event's facts, with the names of people, and with whoever has the function where its user is the cause. */
function factsOf(event: ServiceEvent, present: PresentUsers, nameOf: NameOf): EventFacts {
  const named = <P extends Person>(person: P): P & { readonly user: string | undefined } => {
    return { ...person, user: nameOf(person.uid) };
  };
  const { type: _type, ...others } = event;
  // In front, as people read it.
  const facts = "function" in others ? Object.assign({ function: others.function }, others) : others;
  switch (event.type) {
    case "opened":
    case "closed":
    case "refused":
    case "fds-handed":
      return { ...facts, user: named(event).user };
    case "rule":
    case "dma-refused":
    case "fault": {
      const person = present.of(event.function);
      return person === undefined ? facts : { ...facts, ...named(person) };
    }
    case "kicked":
      return { ...facts, users: event.users.map(named), by: named(event.by) };
    case "trace":
      return { ...facts, by: named(event.by) };
    case "reloaded":
    case "reload-refused":
      return { ...facts, by: event.by === undefined ? undefined : named(event.by) };
    default:
      return facts;
  }
}

/** Who opened each function last, as long as anybody has it. Several openings of one function are the same user's. */
class PresentUsers {
  readonly #byFunction = new Map<string, { person: Person; openings: number }>();

  constructor(service: Pick<Service, "functions">) {
    for (const { name, users } of service.functions()) {
      const person = users.at(-1);
      if (person !== undefined) this.#byFunction.set(name, { person, openings: users.length });
    }
  }

  of(fn: string): Person | undefined {
    const found = this.#byFunction.get(fn);
    return found === undefined ? undefined : { pid: found.person.pid, uid: found.person.uid };
  }

  follow(event: ServiceEvent): void {
    if (event.type === "opened") {
      const openings = (this.#byFunction.get(event.function)?.openings ?? 0) + 1;
      this.#byFunction.set(event.function, { person: event, openings });
    } else if (event.type === "closed") {
      const found = this.#byFunction.get(event.function);
      if (found !== undefined && --found.openings <= 0) this.#byFunction.delete(event.function);
    } else if (event.type === "given-back") this.#byFunction.delete(event.function);
  }
}
