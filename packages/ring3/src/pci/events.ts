// The events of a function, for back ends to emit: listeners are called at once, iterators take from a queue of their own.
// Hard part: one listener's exception must neither stop the others nor unwind the back end that emits.
import type { FunctionEvent, FunctionEventMap, FunctionEventName, FunctionEvents } from "./function.ts";

export interface FunctionEventSourceOptions {
  /** Events that an iterator keeps while nobody takes them; beyond it the oldest is dropped. 256 by default. */
  readonly queueLimit?: number;
  /**
   * Gets what a listener throws, after all listeners ran. By default it is thrown again in a microtask, as `EventTarget`
   * does: an uncaught exception of the program whose listener it is, not of the back end.
   */
  readonly onListenerError?: (error: unknown) => void;
}

type Listener = (event: FunctionEvent) => void;

/** An implementation of {@link FunctionEvents} with its sending side. */
export class FunctionEventSource implements FunctionEvents {
  readonly #listeners = new Map<FunctionEventName, Set<{ readonly call: Listener }>>();
  readonly #queues = new Set<EventQueue>();
  readonly #queueLimit: number;
  readonly #onListenerError: (error: unknown) => void;
  #closed = false;

  constructor(options: FunctionEventSourceOptions = {}) {
    this.#queueLimit = options.queueLimit ?? 256;
    this.#onListenerError =
      options.onListenerError ??
      ((error) => {
        queueMicrotask(() => {
          throw error;
        });
      });
  }

  /** Calls `listener` at each event of the type until disposed. The same function may listen several times. */
  on<K extends FunctionEventName>(type: K, listener: (event: FunctionEventMap[K]) => void): Disposable {
    const entry = { call: listener as unknown as Listener };
    let entries = this.#listeners.get(type);
    if (entries === undefined) this.#listeners.set(type, (entries = new Set()));
    if (!this.#closed) entries.add(entry);
    return { [Symbol.dispose]: () => void entries.delete(entry) };
  }

  /**
   * Tells an event to all that listen now, in the order in which they came; after {@link close} to nobody. Never throws
   * unless `onListenerError` does.
   */
  emit<K extends FunctionEventName>(type: K, event: FunctionEventMap[K]): void {
    if (this.#closed) return;
    const told = { type, ...event } as FunctionEvent;
    for (const queue of this.#queues) queue.push(told);
    const entries = this.#listeners.get(type);
    if (entries === undefined) return;
    const errors: unknown[] = [];
    for (const entry of Array.from(entries)) {
      if (!entries.has(entry)) continue;
      try {
        entry.call(told);
      } catch (error) {
        errors.push(error);
      }
    }
    for (const error of errors) this.#onListenerError(error);
  }

  /** Ends all iterators once they are drained, and lets go of all listeners. */
  close(): void {
    this.#closed = true;
    for (const queue of this.#queues) queue.close();
    this.#queues.clear();
    for (const entries of this.#listeners.values()) entries.clear();
  }

  /** Events from this call on. Ends when the function is closed. */
  [Symbol.asyncIterator](): AsyncIterator<FunctionEvent, undefined> {
    const queue: EventQueue = new EventQueue(this.#queueLimit, () => this.#queues.delete(queue));
    if (this.#closed) queue.close();
    else this.#queues.add(queue);
    return queue;
  }
}

class EventQueue implements AsyncIterator<FunctionEvent, undefined> {
  readonly #limit: number;
  readonly #left: () => void;
  readonly #events: FunctionEvent[] = [];
  readonly #waiting: ((result: IteratorResult<FunctionEvent, undefined>) => void)[] = [];
  #closed = false;

  constructor(limit: number, left: () => void) {
    this.#limit = limit;
    this.#left = left;
  }

  push(event: FunctionEvent): void {
    const waiting = this.#waiting.shift();
    if (waiting !== undefined) {
      waiting({ done: false, value: event });
      return;
    }
    this.#events.push(event);
    if (this.#events.length > this.#limit) this.#events.shift();
  }

  close(): void {
    this.#closed = true;
    for (const waiting of this.#waiting.splice(0)) waiting({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<FunctionEvent, undefined>> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    if (this.#closed) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  return(): Promise<IteratorResult<FunctionEvent, undefined>> {
    this.#left();
    this.#events.length = 0;
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }
}
