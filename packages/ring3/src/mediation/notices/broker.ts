// Tells the users of functions what is about to happen to them, collects their replies, and says what these come to. It
// knows users by process and uid and functions by name; who may use what, and the sockets, are its owner's.
//
// Hard parts: a user may answer, hang up, close or open while it or others are being told, and every notice ends all the
// same, once. Those who are asked are noted before the first of them is told.
import { Ring3Error } from "../../binary/error.ts";
import { type FunctionBook, Listener, type Notice, type Opening, type Registration, speaksFor } from "./book.ts";
import { Inquiry, type Question } from "./inquiry.ts";
import { ERROR_VOTES, type ErrorStage, type NoticeAnswer, type NoticeKind, worstVote } from "./kinds.ts";
import type { ErrorOutcome, FunctionUser, NoticeUser, RemovalOutcome, SuspendOutcome } from "./outcome.ts";

/** One-shot timers. */
export interface NoticeTimers {
  /** Calls `callback` once after `delayMs`, unless disposed before. */
  after(delayMs: number, callback: () => void): Disposable;
}

export interface NoticeBrokerOptions {
  /** The machine's timers by default. */
  readonly timers?: NoticeTimers;
  /** How long a vote on an error may take; 3000 ms by default. */
  readonly errorReplyMs?: number;
  /** How long consent to a suspend may take; 5000 ms by default. */
  readonly suspendReplyMs?: number;
}

/** One connection of a user: what it wants to be told, and its replies. Disposal is its end. */
export interface NoticeConnection extends Disposable {
  /**
   * Wants to be told these kinds of notices of a function, in place of what it wanted before; nothing where `kinds` is
   * empty. It speaks for the openings of process `pid` of the same user, its own by default.
   */
  register(fn: string, kinds: Iterable<NoticeKind>, pid?: number): void;
  /** Throws `NOTICE_UNKNOWN`, `NOTICE_ANSWERED`, `NOTICE_ENDED` or `ANSWER_INVALID`. */
  reply(notice: number, answer: NoticeAnswer, reason?: string): void;
}

const machineTimers: NoticeTimers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** The notices of a service's functions. */
export class NoticeBroker {
  readonly #timers: NoticeTimers;
  readonly #errorReplyMs: number;
  readonly #suspendReplyMs: number;
  readonly #functions: Map<string, FunctionBook> = new Map();
  /** Suspends that are being asked for. */
  readonly #suspends: Map<Inquiry, readonly string[]> = new Map();
  readonly #listeners: Set<() => void> = new Set();
  #notices = 0;

  constructor({ timers = machineTimers, errorReplyMs = 3000, suspendReplyMs = 5000 }: NoticeBrokerOptions = {}) {
    this.#timers = timers;
    this.#errorReplyMs = errorReplyMs;
    this.#suspendReplyMs = suspendReplyMs;
  }

  /**
   * A user has opened a function; disposal is its closing. `force` closes it when a removal's grace time is over, and must
   * not throw. Throws `FUNCTION_REMOVED` from the beginning of a removal on.
   */
  opened(fn: string, { pid, uid }: NoticeUser, force: (reason: string) => void): Disposable {
    this.checkOpenable(fn);
    const book = this.#book(fn);
    const opening: Opening = { user: { pid, uid, function: fn }, force };
    book.openings.add(opening);
    for (const [suspend, functions] of Array.from(this.#suspends)) {
      if (functions.includes(fn)) suspend.unasked(opening.user);
    }
    this.#changed();
    return { [Symbol.dispose]: () => this.#closed(book, opening) };
  }

  /** Throws `FUNCTION_REMOVED` where a function is being removed or was. */
  checkOpenable(fn: string): void {
    if (this.#functions.get(fn)?.removal === undefined) return;
    throw new Ring3Error(
      "FUNCTION_REMOVED",
      `${fn} is being taken from the machine and cannot be opened; wait until it is back`,
      { errno: "ENODEV" },
    );
  }

  /** Those who have a function open. */
  users(fn: string): FunctionUser[] {
    return Array.from(this.#functions.get(fn)?.openings ?? [], ({ user }) => user);
  }

  /** Those who have a function open and are not registered for this kind: nobody can ask them. */
  unregistered(kind: NoticeKind): FunctionUser[] {
    return Array.from(this.#functions.values(), ({ openings, registrations }) => {
      const wanting = Array.from(registrations).filter(({ kinds }) => kinds.has(kind));
      return Array.from(openings).filter((opening) => !wanting.some((one) => speaksFor(one, opening)));
    })
      .flat()
      .map(({ user }) => user);
  }

  /** Calls `listener` after each opening, closing, registration and end of one. */
  onChange(listener: () => void): Disposable {
    const entry = (): void => listener();
    this.#listeners.add(entry);
    return { [Symbol.dispose]: () => void this.#listeners.delete(entry) };
  }

  /** A user's connection. `send` gets its notices, at any time until disposal, and must not throw. */
  connect({ pid, uid }: NoticeUser, send: (notice: Notice) => void): NoticeConnection {
    const listener = new Listener({ pid, uid }, send);
    return {
      register: (fn, kinds, forPid = pid) => this.#register(listener, fn, new Set(kinds), forPid),
      reply: (notice, answer, reason) => reply(listener.question(notice), answer, reason),
      [Symbol.dispose]: () => {
        for (const registration of listener.registrations.values()) {
          this.#functions.get(registration.function)?.registrations.delete(registration);
        }
        const lost = Map.groupBy(listener.openQuestions(), ({ inquiry }) => inquiry);
        for (const [inquiry, questions] of lost) inquiry.lost(questions);
        this.#changed();
      },
    };
  }

  /** Asks all users of a function how they can go on after an error. */
  async error(fn: string, kind: ErrorStage, description: string): Promise<ErrorOutcome> {
    const inquiry = new Inquiry(kind);
    this.#ask(inquiry, kind, [fn], description, this.#errorReplyMs);
    const { answers, silent, unasked } = await inquiry.ended;
    const votes = answers.map(({ answer, ...rest }) => ({
      ...rest,
      vote: ERROR_VOTES.find((vote) => vote === answer) ?? "none",
    }));
    return { kind, function: fn, vote: worstVote(votes.map(({ vote }) => vote)), votes, silent, unasked };
  }

  /** Tells that a function has recovered from an error. */
  errorResumed(fn: string, description: string): void {
    this.#tell("error-resume", fn, { description });
  }

  /** Asks all users of these functions whether the machine, or the functions, may be suspended. */
  async suspend(functions: readonly string[], description: string): Promise<SuspendOutcome> {
    const inquiry = new Inquiry("suspend");
    this.#suspends.set(inquiry, functions);
    const asked = this.#ask(inquiry, "suspend", functions, description, this.#suspendReplyMs);
    const { answers, silent, unasked } = await inquiry.ended;
    this.#suspends.delete(inquiry);
    const consented: FunctionUser[] = [];
    const refused: (FunctionUser & { readonly reason: string | undefined })[] = [];
    for (const { answer, reason, ...user } of answers) {
      if (answer === "consent") consented.push(user);
      else refused.push({ ...user, reason });
    }
    const allowed = refused.length + silent.length + unasked.length === 0;
    // Who has made ready for it goes on working.
    if (!allowed && asked > 0) this.powerResumed(functions, "the suspend was vetoed");
    return { kind: "suspend", functions, allowed, consented, refused, silent, unasked };
  }

  /** Tells that functions work again after a suspend, or that it does not come. */
  powerResumed(functions: readonly string[], description: string): void {
    for (const fn of functions) this.#tell("power-resume", fn, { description });
  }

  /**
   * Takes a function from its users: nobody opens it any more, all who are registered are told, and once `graceMs` are over
   * it is closed by force for those who have it open still. A second removal is the first one's.
   */
  remove(fn: string, graceMs: number, description: string): Promise<RemovalOutcome> {
    const book = this.#book(fn);
    if (book.removal !== undefined) return book.removal.outcome;
    const { promise, resolve } = Promise.withResolvers<RemovalOutcome>();
    const end = (forced: readonly FunctionUser[]): void => {
      if (removal.over) return;
      removal.over = true;
      timer[Symbol.dispose]();
      resolve({ kind: "remove", function: fn, forced });
    };
    const removal = { outcome: promise, emptied: () => end([]), over: false };
    const timer = this.#timers.after(graceMs, () => {
      const openings = Array.from(book.openings);
      end(openings.map(({ user }) => user));
      for (const { force } of openings) force(`the grace time of ${graceMs} ms is over: ${description}`);
    });
    book.removal = removal;
    this.#tell("remove", fn, { description, graceMs });
    if (book.openings.size === 0) removal.emptied();
    return promise;
  }

  /** A function is there again after its removal. Throws `REMOVAL_PENDING` before that has ended. */
  returned(fn: string): void {
    const book = this.#functions.get(fn);
    if (book?.removal === undefined) return;
    if (!book.removal.over) throw new Ring3Error("REMOVAL_PENDING", `${fn} is being removed still; await its outcome`);
    book.removal = undefined;
  }

  #register(listener: Listener, fn: string, kinds: ReadonlySet<NoticeKind>, pid: number): void {
    const book = this.#book(fn);
    const former = listener.registrations.get(fn);
    if (former !== undefined) book.registrations.delete(former);
    listener.registrations.delete(fn);
    if (kinds.size > 0) {
      const registration: Registration = { listener, function: fn, kinds, pid };
      listener.registrations.set(fn, registration);
      book.registrations.add(registration);
    }
    this.#changed();
  }

  /** Tells all whom it concerns, unless one who cannot be asked ends it before. How many were told. */
  #ask(
    inquiry: Inquiry,
    kind: NoticeKind,
    functions: readonly string[],
    description: string,
    replyWithinMs: number,
  ): number {
    const questions: { listener: Listener; question: Question; notice: Notice }[] = [];
    for (const fn of functions) {
      const book = this.#book(fn);
      const openings = Array.from(book.openings);
      const wanting = Array.from(book.registrations).filter(({ kinds }) => kinds.has(kind));
      for (const opening of openings) {
        if (!wanting.some((registration) => speaksFor(registration, opening))) inquiry.unasked(opening.user);
      }
      for (const question of book.questions) if (question.state !== "open") book.questions.delete(question);
      for (const registration of wanting) {
        if (!openings.some((opening) => speaksFor(registration, opening))) continue;
        const question = inquiry.ask({ pid: registration.pid, uid: registration.listener.user.uid, function: fn });
        book.questions.add(question);
        const { answers } = inquiry;
        const notice = { notice: ++this.#notices, kind, function: fn, description, answers, replyWithinMs };
        registration.listener.remember(notice.notice, question);
        questions.push({ listener: registration.listener, question, notice });
      }
    }
    inquiry.begin((expired) => this.#timers.after(replyWithinMs, expired));
    let told = 0;
    for (const { listener, question, notice } of questions) {
      // What those who were told before said or did may have ended it.
      if (question.state !== "open") continue;
      told++;
      listener.send(notice);
    }
    return told;
  }

  #tell(kind: NoticeKind, fn: string, more: Pick<Notice, "description" | "graceMs">): void {
    const registrations = this.#functions.get(fn)?.registrations ?? new Set();
    for (const registration of Array.from(registrations)) {
      if (!registrations.has(registration) || !registration.kinds.has(kind)) continue;
      registration.listener.send({ notice: ++this.#notices, kind, function: fn, ...more });
    }
  }

  #closed(book: FunctionBook, opening: Opening): void {
    if (!book.openings.delete(opening)) return;
    const { pid, uid } = opening.user;
    const same = (user: NoticeUser): boolean => user.pid === pid && user.uid === uid;
    if (!Array.from(book.openings).some(({ user }) => same(user))) {
      for (const question of Array.from(book.questions)) if (same(question.user)) question.inquiry.closed(question);
    }
    if (book.openings.size === 0) book.removal?.emptied();
    this.#changed();
  }

  #changed(): void {
    for (const listener of Array.from(this.#listeners)) listener();
  }

  #book(fn: string): FunctionBook {
    let book = this.#functions.get(fn);
    if (book === undefined) {
      this.#functions.set(
        fn,
        (book = { openings: new Set(), registrations: new Set(), questions: new Set(), removal: undefined }),
      );
    }
    return book;
  }
}

function reply(question: Question, answer: NoticeAnswer, reason: string | undefined): void {
  const { answers } = question.inquiry;
  if (!answers.includes(answer)) {
    throw new Ring3Error("ANSWER_INVALID", `"${answer}" is no answer to this notice; it takes ${answers.join(", ")}`);
  }
  question.inquiry.answer(question, answer, reason);
}
