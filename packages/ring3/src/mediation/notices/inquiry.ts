// One notice that wants replies, from the moment it is told until it ends: once, by the last answer, a veto or the time.
import { answersOf, type NoticeAnswer, type NoticeKind } from "./kinds.ts";
import type { FunctionUser } from "./outcome.ts";

export interface Answered extends FunctionUser {
  readonly answer: NoticeAnswer;
  readonly reason: string | undefined;
}

/** What has been found out by the end. */
export interface Findings {
  readonly answers: readonly Answered[];
  readonly silent: readonly FunctionUser[];
  readonly unasked: readonly FunctionUser[];
}

/** Who is asked what: one for each registration that the notice goes to. */
export interface Question {
  readonly inquiry: Inquiry;
  readonly user: FunctionUser;
  state: "open" | "answered" | "ended";
}

export class Inquiry {
  readonly ended: Promise<Findings>;
  readonly #answers: Answered[] = [];
  readonly #silent: FunctionUser[] = [];
  readonly #unasked: FunctionUser[] = [];
  readonly #awaited: Set<Question> = new Set();
  readonly #kind: NoticeKind;
  readonly #end: (findings: Findings) => void;
  #timer: Disposable | undefined;
  #over = false;

  /** The first refusal, silence or user that cannot be asked ends a suspend; errors are asked to the end. */
  constructor(kind: NoticeKind) {
    this.#kind = kind;
    const { promise, resolve } = Promise.withResolvers<Findings>();
    this.ended = promise;
    this.#end = resolve;
  }

  /** What can be replied. */
  get answers(): readonly NoticeAnswer[] {
    return answersOf(this.#kind);
  }

  /** Before anybody is told: replies may come at once. */
  ask(user: FunctionUser): Question {
    const question: Question = { inquiry: this, user, state: "open" };
    this.#awaited.add(question);
    return question;
  }

  /** All questions are out: from now on it can end. `after` arms the time for the replies. */
  begin(after: (expired: () => void) => Disposable): void {
    this.#timer = after(() => this.#expire());
    this.#look(this.#unasked.length > 0);
  }

  /** Somebody has a function open and cannot be asked. */
  unasked(user: FunctionUser): void {
    if (this.#over) return;
    this.#unasked.push(user);
    this.#look(true);
  }

  answer(question: Question, answer: NoticeAnswer, reason: string | undefined): void {
    if (!this.#take(question, "answered")) return;
    this.#answers.push({ ...question.user, answer, reason });
    this.#look(answer === "refuse");
  }

  /** Who was asked these questions cannot answer any more, and has the functions open still. */
  lost(questions: readonly Question[]): void {
    const lost = questions.filter((question) => this.#take(question, "ended"));
    this.#silent.push(...lost.map(({ user }) => user));
    if (lost.length > 0) this.#look(true);
  }

  /** Who was asked has closed the function: it has nothing to say any more. */
  closed(question: Question): void {
    if (this.#take(question, "ended")) this.#look(false);
  }

  #expire(): void {
    for (const question of this.#awaited) {
      question.state = "ended";
      this.#silent.push(question.user);
    }
    this.#awaited.clear();
    this.#look(true);
  }

  #take(question: Question, state: "answered" | "ended"): boolean {
    if (!this.#awaited.delete(question)) return false;
    question.state = state;
    return true;
  }

  #look(against: boolean): void {
    if (this.#over || this.#timer === undefined) return;
    if (this.#awaited.size > 0 && !(against && this.#kind === "suspend")) return;
    this.#over = true;
    this.#timer[Symbol.dispose]();
    for (const question of this.#awaited) question.state = "ended";
    this.#awaited.clear();
    this.#end({ answers: this.#answers, silent: this.#silent, unasked: this.#unasked });
  }
}
