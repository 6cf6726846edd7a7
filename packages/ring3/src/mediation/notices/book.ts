// Who has which function open, and who wants to be told what of it.
import { Ring3Error } from "../../binary/error.ts";
import type { Question } from "./inquiry.ts";
import type { NoticeAnswer, NoticeKind } from "./kinds.ts";
import type { FunctionUser, NoticeUser, RemovalOutcome } from "./outcome.ts";

/** A notice on its way to one listener. */
export interface Notice {
  /** Names it in the reply; every notice to every listener has its own. */
  readonly notice: number;
  readonly kind: NoticeKind;
  readonly function: string;
  /** What happened, in words. */
  readonly description: string;
  /** What can be replied, and within which time; left out where nothing is. */
  readonly answers?: readonly NoticeAnswer[];
  readonly replyWithinMs?: number;
  /** Of a removal: when it takes the function from those who have it open still. */
  readonly graceMs?: number;
}

/** One who has a function open. */
export interface Opening {
  readonly user: FunctionUser;
  readonly force: (reason: string) => void;
}

/** What one connection wants to hear of one function, on behalf of one process. */
export interface Registration {
  readonly listener: Listener;
  readonly function: string;
  readonly kinds: ReadonlySet<NoticeKind>;
  /** The process whose openings it speaks for. */
  readonly pid: number;
}

/** How many notices of a connection are remembered, so that a late or second reply is told from a wrong one. */
const REMEMBERED = 64;

/** One connection of a user. */
export class Listener {
  readonly user: NoticeUser;
  readonly send: (notice: Notice) => void;
  readonly registrations: Map<string, Registration> = new Map();
  readonly #questions: Map<number, Question> = new Map();

  constructor(user: NoticeUser, send: (notice: Notice) => void) {
    this.user = user;
    this.send = send;
  }

  remember(notice: number, question: Question): void {
    for (const [old, { state }] of this.#questions) {
      if (this.#questions.size < REMEMBERED) break;
      if (state !== "open") this.#questions.delete(old);
    }
    this.#questions.set(notice, question);
  }

  /** The open question of that number. Throws `NOTICE_UNKNOWN`, `NOTICE_ANSWERED` or `NOTICE_ENDED`. */
  question(notice: number): Question {
    const question = this.#questions.get(notice);
    if (question?.state === "open") return question;
    if (question?.state === "answered") {
      throw new Ring3Error("NOTICE_ANSWERED", `notice ${notice} was answered already; the first answer counts`);
    }
    if (question?.state === "ended") {
      throw new Ring3Error("NOTICE_ENDED", `notice ${notice} has ended without this reply: it came too late`);
    }
    throw new Ring3Error(
      "NOTICE_UNKNOWN",
      `no notice ${notice} waits for a reply of this connection; reply with the number that came with it`,
    );
  }

  *openQuestions(): Generator<Question, void, undefined> {
    for (const question of this.#questions.values()) if (question.state === "open") yield question;
  }
}

/** All that is known of one function. */
export interface FunctionBook {
  readonly openings: Set<Opening>;
  readonly registrations: Set<Registration>;
  /** Open ones, and some that have ended since. */
  readonly questions: Set<Question>;
  /** While it is being removed, and from then on until it is returned. */
  removal: Removal | undefined;
}

interface Removal {
  readonly outcome: Promise<RemovalOutcome>;
  /** All have closed. */
  readonly emptied: () => void;
  over: boolean;
}

/** Whether a registration speaks for an opening: the same process of the same user. */
export function speaksFor({ pid, listener }: Registration, { user }: Opening): boolean {
  return pid === user.pid && listener.user.uid === user.uid;
}
