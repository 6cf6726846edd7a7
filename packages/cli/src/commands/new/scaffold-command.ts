// What the two `ring3 new` commands share: names, writing, and saying what to do next.
import type { Context } from "../../context.ts";
import { version } from "../../run.ts";
import {
  type ScaffoldName,
  scaffoldManifest,
  scaffoldName,
  shownPath,
  writeScaffold,
} from "../../templates/scaffold.ts";
import { columns } from "../../text.ts";

/** Writes the template's files to `directory` and prints `steps`, each a command and what it does. */
export function scaffold(
  directory: string,
  files: (name: ScaffoldName) => Readonly<Record<string, string>>,
  context: Context,
  steps: (directory: string) => readonly (readonly [command: string, text: string])[],
): void {
  const name = scaffoldName(directory);
  const manifest = { "package.json": scaffoldManifest(name, version()) };
  const written = writeScaffold(directory, { ...manifest, ...files(name) });
  const next = steps(shownPath(directory));
  const value = { ...written, next: next.map(([line]) => line) };
  context.result(value, () => {
    const lines = [`wrote ${written.files.map(shownPath).join(", ")}`];
    if (written.linked !== undefined) {
      lines.push(`ring3 is linked to ${written.linked}; npm install in ${shownPath(directory)} replaces the link`);
    }
    const rows = next.map(([line, text]) => [line, context.style.dim(`# ${text}`)]);
    return `${lines.join("\n")}\nnext:\n${columns(rows, { indent: 2 })}`;
  });
}
