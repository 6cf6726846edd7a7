// A reporter of node:test for runs in the guest: each event one marked JSON line on standard output, among whatever
// the test itself prints, so that run.ts can play it again on the host.
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

/** Starts each line that is an event (ASCII record separator). */
export const MARK = "\x1ering3 ";

/** What crosses the line: a test begins, it ends, and rarely what turned out after its end; ahead of all that, its name. */
export type InnerEvent =
  | { readonly type: "start"; readonly id: number; readonly parent: number | undefined; readonly name: string }
  | ({ readonly type: "end"; readonly id: number } & InnerEnd)
  | { readonly type: "failed"; readonly id: number; readonly failure: string }
  /** What a test has to say besides. */
  | { readonly type: "diagnostic"; readonly message: string }
  /** From preload.ts. */
  | { readonly type: "enter"; readonly name: string };

export interface InnerEnd {
  readonly passed: boolean;
  readonly skip?: string;
  readonly todo?: string;
  readonly failure?: string;
  /** The failure is only that of a subtest. */
  readonly ofSubtest?: boolean;
}

/** The reporter; node's `--test-reporter` wants a default export. */
// oxlint-disable-next-line import/no-default-export
export default async function* report(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    const inner = translate(event);
    if (inner !== undefined) yield `\n${MARK}${JSON.stringify(inner)}\n`;
  }
}

/** Takes the events of execution, not `test:start` and `test:pass`, which node holds back until the parent's turn. */
function translate(event: TestEvent): InnerEvent | undefined {
  switch (event.type) {
    case "test:dequeue": {
      const { testId, parentId, name } = event.data;
      return { type: "start", id: testId, parent: parentId, name };
    }
    case "test:complete": {
      const { testId, details, skip, todo } = event.data;
      const end = { type: "end", id: testId, passed: details.passed, ...reason("skip", skip), ...reason("todo", todo) };
      return { ...end, ...failure(details.error) } as InnerEvent;
    }
    case "test:fail":
      return { type: "failed", id: event.data.testId, failure: inspect(event.data.details.error.cause, { depth: 6 }) };
    case "test:diagnostic": {
      const { message, line, column } = event.data;
      // The counts of the run stand at the file's first byte.
      return line === 1 && column === 1 ? undefined : { type: "diagnostic", message };
    }
    default:
      return undefined;
  }
}

function failure(error: (Error & { failureType?: string }) | undefined): { failure?: string; ofSubtest?: boolean } {
  if (error === undefined) return {};
  return { failure: inspect(error.cause ?? error, { depth: 6 }), ofSubtest: error.failureType === "subtestsFailed" };
}

/** node:test says `true` or a reason. */
function reason<Key extends string>(key: Key, value: string | boolean | undefined): { [K in Key]?: string } {
  if (value === undefined || value === false) return {};
  return { [key]: value === true ? "" : value } as { [K in Key]: string };
}
