// Whoever has an I/O queue on the controller, as the engine sees it: the driver's own queue pairs, queues in workers, raw
// rings.
import type { Ring3Error } from "../../binary/error.ts";
import type { Admin } from "./admin.ts";
import type { QueueLayout } from "./queue-memory.ts";
import type { QueuePair } from "./queue-pair.ts";

/** Something with queues on the controller: told when they vanish and when they can be made again. */
export interface QueueUser {
  readonly queueId: number;
  /** The controller is about to be disabled: post nothing more. */
  freeze(): void;
  /** The controller is disabled and reaches no memory: empty the queues. */
  prepare(): void;
  /** The controller works again: create the queues by `admin` and go on. */
  restore(admin: Admin): Promise<void>;
  /** There will be no controller any more. */
  fail(error: Ring3Error): void;
}

/** A queue pair of the thread that owns the controller. */
export class OwnQueue implements QueueUser {
  readonly pair: QueuePair;
  readonly layout: QueueLayout;
  readonly #create: (admin: Admin) => Promise<void>;
  readonly #connection: Disposable | undefined;

  /** `connection` brings its interrupts. */
  constructor(
    pair: QueuePair,
    layout: QueueLayout,
    create: (admin: Admin) => Promise<void>,
    connection: Disposable | undefined,
  ) {
    this.pair = pair;
    this.layout = layout;
    this.#create = create;
    this.#connection = connection;
  }

  get queueId(): number {
    return this.layout.queueId;
  }

  freeze(): void {
    this.pair.freeze();
  }

  prepare(): void {
    this.pair.prepare();
  }

  async restore(admin: Admin): Promise<void> {
    await this.#create(admin);
    this.pair.thaw();
  }

  fail(error: Ring3Error): void {
    this.#connection?.[Symbol.dispose]();
    this.pair.fail(error);
  }
}
