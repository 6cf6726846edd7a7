// Plays the tests of a process in the guest again as subtests on the host, while they run there.
// The hard part is order: node:test runs one subtest of a parent after the other, the guest is ahead of the host.
import type { TestContext } from "node:test";
import { LineReader } from "./protocol.ts";
import { type InnerEnd, type InnerEvent, MARK } from "./reporter.ts";

interface Node {
  readonly context: Promise<TestContext>;
  readonly ended: PromiseWithResolvers<InnerEnd>;
  readonly subtests: Promise<unknown>[];
  passed: boolean | undefined;
}

export class Replay {
  readonly #root: Node;
  readonly #nodes = new Map<number, Node>();
  readonly #lines = new LineReader();
  readonly #output: string[] = [];
  /** Failures that came up after their test had been reported as passed. */
  readonly #late: string[] = [];

  #entered = "";

  constructor(context: TestContext) {
    this.#root = newNode(Promise.resolve(context));
  }

  /** Takes the process's standard output as it comes. */
  push(text: string): void {
    this.#lines.push(text, (line) => {
      if (line.startsWith(MARK)) this.#receive(JSON.parse(line.slice(MARK.length)) as InnerEvent);
      else this.#output.push(line);
    });
  }

  /** What the process printed besides its events. */
  get output(): string {
    return [...this.#output, ...this.#late].join("\n");
  }

  /** The test that began last, also when nothing else of it was heard. */
  get entered(): string {
    return this.#entered;
  }

  /** How many tests have ended, and how many of them the host shows as failed. */
  get counts(): { readonly ended: number; readonly failed: number } {
    const ended = [...this.#nodes.values()].filter(({ passed }) => passed !== undefined);
    return { ended: ended.length, failed: ended.filter(({ passed }) => passed === false).length };
  }

  /** Fails what still runs, because the process is gone, and waits until the host has reported everything. */
  async finish(reason: string): Promise<void> {
    for (const node of this.#nodes.values()) this.#end(node, { passed: false, failure: reason });
    await Promise.all(this.#root.subtests);
  }

  #receive(event: InnerEvent): void {
    if (event.type === "enter") {
      this.#entered = event.name;
      return;
    }
    if (event.type === "diagnostic") {
      void this.#root.context.then((context) => context.diagnostic(event.message));
      return;
    }
    if (event.type === "start") {
      const parent = this.#nodes.get(event.parent ?? 0) ?? this.#root;
      this.#nodes.set(event.id, start(parent, event.name));
      return;
    }
    const node = this.#nodes.get(event.id);
    if (node === undefined) return;
    if (event.type === "end") this.#end(node, event);
    else if (node.passed === true) this.#late.push(event.failure);
  }

  #end(node: Node, end: InnerEnd): void {
    // node:test reports some ends twice.
    if (node.passed !== undefined) return;
    node.passed = end.passed || end.todo !== undefined;
    node.ended.resolve(end);
  }
}

function newNode(context: Promise<TestContext>): Node {
  return { context, ended: Promise.withResolvers(), subtests: [], passed: undefined };
}

function start(parent: Node, name: string): Node {
  const context = Promise.withResolvers<TestContext>();
  const node = newNode(context.promise);
  const body = async (test: TestContext): Promise<void> => {
    context.resolve(test);
    const end = await node.ended.promise;
    await Promise.all(node.subtests);
    if (end.skip !== undefined) test.skip(end.skip);
    if (end.todo !== undefined) test.todo(end.todo);
    if (!end.passed && end.ofSubtest !== true) throw new InnerFailure(end.failure ?? "failed");
  };
  parent.subtests.push(parent.context.then((test) => test.test(name, body)));
  return node;
}

/** A failure in the guest; its message is the whole story, a stack of the host would mislead. */
class InnerFailure extends Error {
  override readonly name = "InnerFailure";

  constructor(message: string) {
    super(message);
    this.stack = `in the guest: ${message}`;
  }
}
