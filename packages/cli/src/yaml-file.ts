// A YAML file that is checked before it is used: what is wrong with it is said with line and column, all of it at once.
import { messageOf } from "ring3/binary";
import { type Document, isNode, LineCounter, parseDocument } from "yaml";
import { UsageError } from "./usage-error.ts";

/** What is wrong, and with which value: names of keys and indices of lists, from the top. */
export interface ValueProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/**
 * The value of the YAML `text`, once `problemsOf` finds nothing wrong with it. Throws `UsageError` with all problems; `name`
 * is how they call the file, `what` what the file was meant to be.
 */
export function checkedYaml(
  text: string,
  name: string,
  what: string,
  problemsOf: (value: unknown) => readonly ValueProblem[],
): unknown {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${name}:${line}:${col}`;
  };
  const problems = [...document.errors, ...document.warnings].map(({ pos, message }) => `${at(pos[0])}: ${message}`);
  if (problems.length === 0) {
    const value = plainValue(document, problems);
    const wrong = problems.length > 0 ? [] : problemsOf(value);
    const found = wrong.map(({ path, message }) => ({ offset: offsetOf(path), message }));
    found.sort((one, other) => one.offset - other.offset);
    problems.push(...found.map(({ offset, message }) => `${at(offset)}: ${message}`));
    if (problems.length === 0) return value;
  }
  throw new UsageError(`this is no ${what}:\n  ${problems.join("\n  ")}`);

  /** Where the value at a path begins, or the nearest thing around it that is there. */
  function offsetOf(path: readonly (string | number)[]): number {
    for (let length = path.length; length >= 0; length--) {
      const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
      if (isNode(node) && node.range !== undefined && node.range !== null) return node.range[0];
    }
    return 0;
  }
}

/** The document as plain values; an alias of nothing, and one too many of them, are problems too. */
function plainValue(document: Document.Parsed, problems: string[]): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    problems.push(messageOf(error));
    return undefined;
  }
}
