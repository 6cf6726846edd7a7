// The tables of docs/ring3d.md, from the declarations of what the configuration may say.
import { settingTables } from "../packages/cli/src/ring3d/configuration.ts";

export function configurationTables(): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(settingTables()).map(([name, rows]) => {
      const lines = rows.map(
        ({ name: setting, description, initial }) => `| \`${setting}\` | ${description} | ${initial} |`,
      );
      return [name, ["| setting | what it says | default |", "| --- | --- | --- |", ...lines].join("\n")];
    }),
  );
}
