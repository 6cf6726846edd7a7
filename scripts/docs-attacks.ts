// The table of docs/security.md, from the attacks that the tests run.
import { attacks, attacksAt, type PlaceName } from "../tests/hostile/attacks/list.ts";

/** Places as the table's heads have them. */
const PLACES: Readonly<Record<PlaceName, string>> = {
  library: "`mediate`",
  ring3d: "`ring3d`",
  nvme: "NVMe",
  edu: "edu",
  vf: "igb VF",
};

export function attackTables(): ReadonlyMap<string, string> {
  const places = (Object.keys(PLACES) as PlaceName[]).map((place) => new Set(attacksAt(place)));
  const lines = [
    `| # | what a user tries | what comes of it | ${Object.values(PLACES).join(" | ")} |`,
    `| --- | --- | --- |${" --- |".repeat(places.length)}`,
  ];
  const groups = Array.from(new Set(attacks.map(({ group }) => group)));
  let number = 0;
  for (const group of groups) {
    lines.push(`| | **${group}** | |${" |".repeat(places.length)}`);
    for (const attack of attacks.filter((each) => each.group === group)) {
      const where = places.map((tried) => (tried.has(attack) ? " x |" : " |")).join("");
      lines.push(`| ${++number} | ${attack.what} | ${attack.outcome} |${where}`);
    }
  }
  return new Map([["ATTACKS", lines.join("\n")]]);
}
