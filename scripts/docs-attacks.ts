// The table of docs/security.md, from the attacks that the tests run.
import { attacks } from "../tests/hostile/mediation-attacks.ts";

export function attackTables(): ReadonlyMap<string, string> {
  const lines = ["| # | what a user tries | what comes of it |", "| --- | --- | --- |"];
  const groups = Array.from(new Set(attacks.map(({ group }) => group)));
  let number = 0;
  for (const group of groups) {
    lines.push(`| | **${group}** | |`);
    for (const { what, outcome } of attacks.filter((attack) => attack.group === group)) {
      lines.push(`| ${++number} | ${what} | ${outcome} |`);
    }
  }
  return new Map([["ATTACKS", lines.join("\n")]]);
}
