// How many lines somebody may cause: some at once, then a rate, for each key by itself. What goes beyond is counted and told
// of, so that a log says what it leaves out. Hard part: what was left out last is told even where nothing follows.

export interface LineBudgetOptions {
  /** Lines at once; 100 by default. */
  readonly burst?: number;
  /** Lines a second after that; 1 by default. */
  readonly perSecond?: number;
  /** A clock that only goes forward, in milliseconds; passed in for tests. */
  readonly nowMs?: () => number;
}

interface Bucket {
  tokens: number;
  /** When `tokens` was true. */
  atMs: number;
  leftOut: number;
}

/** Left-out lines are told of this long after the first of them, unless a line of their key went out before. */
const TELL_AFTER_MS = 10_000;
/** Keys that are kept apart. More come only of somebody who makes them up; those share one budget. */
const MAXIMUM_KEYS = 1000;
const REMAINING_KEYS = "";
/** Whoever makes keys up must not have them all looked through for each. */
const FORGET_EVERY_MS = 1000;

/** Lines by key. Disposal tells what was left out until then. */
export class LineBudget implements Disposable {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  readonly #tell: (key: string, leftOut: number) => void;
  readonly #buckets = new Map<string, Bucket>();
  #forgotAtMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  /** `tell` says that so many lines of a key were left out. */
  constructor(tell: (key: string, leftOut: number) => void, options: LineBudgetOptions = {}) {
    const { burst = 100, perSecond = 1, nowMs = () => performance.now() } = options;
    this.#tell = tell;
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
  }

  /** Whether a line of `key` may be written now; where some were left out before it, that is told first. */
  admits(key: string): boolean {
    const [known, bucket] = this.#bucket(key);
    const nowMs = this.#nowMs();
    bucket.tokens = Math.min(this.#burst, bucket.tokens + ((nowMs - bucket.atMs) / 1000) * this.#perSecond);
    bucket.atMs = nowMs;
    if (bucket.tokens < 1) {
      bucket.leftOut++;
      this.#timer ??= setTimeout(() => this.#tellAll(), TELL_AFTER_MS).unref();
      return false;
    }
    bucket.tokens--;
    this.#tellOf(known, bucket);
    return true;
  }

  [Symbol.dispose](): void {
    this.#tellAll();
  }

  #bucket(key: string): [key: string, bucket: Bucket] {
    const found = this.#buckets.get(key);
    if (found !== undefined) return [key, found];
    if (this.#buckets.size >= MAXIMUM_KEYS) this.#forget();
    if (this.#buckets.size >= MAXIMUM_KEYS && key !== REMAINING_KEYS) return this.#bucket(REMAINING_KEYS);
    const bucket = { tokens: this.#burst, atMs: this.#nowMs(), leftOut: 0 };
    this.#buckets.set(key, bucket);
    return [key, bucket];
  }

  /** A bucket that is full again is as one that never was. */
  #forget(): void {
    const nowMs = this.#nowMs();
    if (nowMs - this.#forgotAtMs < FORGET_EVERY_MS) return;
    this.#forgotAtMs = nowMs;
    for (const [key, { tokens, atMs, leftOut }] of this.#buckets) {
      const full = tokens + ((nowMs - atMs) / 1000) * this.#perSecond >= this.#burst;
      if (full && leftOut === 0) this.#buckets.delete(key);
    }
  }

  #tellAll(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [key, bucket] of this.#buckets) this.#tellOf(key, bucket);
  }

  #tellOf(key: string, bucket: Bucket): void {
    const { leftOut } = bucket;
    bucket.leftOut = 0;
    if (leftOut > 0) this.#tell(key, leftOut);
  }
}
