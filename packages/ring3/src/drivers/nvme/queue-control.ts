// Words in a worker queue's memory by which the thread that owns the controller and the worker that owns the queue agree.
// Hard about it: after a controller reset the queue may be made anew only when the worker has stopped posting to the old
// one, or old entries would be executed again.

/** Indices into the queue's control words. */
export const ControlWord = { OWNER: 0, STATE: 1, ACKNOWLEDGED: 2, REQUEST: 3 } as const;
/** The state word is `generation * 4 + state`. */
export const QueueState = { RUNNING: 1, STOPPING: 2, FAILED: 3 } as const;
/** A request of the worker is `identifier * 4 + kind`; 0 is none. */
export const QueueRequest = { ABORT: 1, RECOVER: 2, RELEASE: 3 } as const;

/** Calls `changed` with the word's value whenever it differs from the last one seen, until `stopped` says so. */
export async function watchWord(
  words: Int32Array<SharedArrayBuffer>,
  index: number,
  changed: (value: number) => void,
  stopped: () => boolean,
): Promise<void> {
  let seen = Atomics.load(words, index);
  while (!stopped()) {
    const wait = Atomics.waitAsync(words, index, seen);
    if (wait.async) await wait.value;
    if (stopped()) return;
    const value = Atomics.load(words, index);
    if (value === seen) continue;
    seen = value;
    changed(value);
    // The handler may have changed the word itself.
    seen = Atomics.load(words, index) === value ? value : seen;
  }
}

/** Stores a word and wakes whoever watches it. */
export function tell(words: Int32Array<SharedArrayBuffer>, index: number, value: number): void {
  Atomics.store(words, index, value);
  Atomics.notify(words, index);
}
