// Operations on a backing, one after the other, each of which is done at once or takes time. Written as a generator that
// yields what the backing returned: while everything is done at once no promise is made.

/** Yields what each operation returned; its result is a command's status. */
export type Steps = Generator<Promise<void> | void, number, void>;

/** Runs `steps` as far as they go at once: their result, or a promise of it. Failures throw or reject. */
export function runSteps(steps: Steps): number | Promise<number> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    if (value instanceof Promise) return finish(steps, value);
  }
}

async function finish(steps: Steps, first: Promise<void>): Promise<number> {
  let pending: Promise<void> | void = first;
  for (;;) {
    let step: IteratorResult<Promise<void> | void, number>;
    try {
      await pending;
      step = steps.next();
    } catch (error) {
      step = steps.throw(error);
    }
    if (step.done === true) return step.value;
    pending = step.value;
  }
}
