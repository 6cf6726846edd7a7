// The machine's own tshark, with the dissector that ring3 ships. It is not fetched: with its libraries it takes 128 MB.
import { execFileSync } from "node:child_process";
import { join } from "node:path";

const DISSECTOR = join(import.meta.dirname, "../../docs/ring3.lua");

/** Reads a capture and gives tshark's lines; `undefined` where the machine has none. */
export function findTshark(): ((capture: string, words: readonly string[]) => string[]) | undefined {
  try {
    execFileSync("tshark", ["--version"], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  return (capture, words) => {
    const all = ["-X", `lua_script:${DISSECTOR}`, "-r", capture, ...words];
    const text = execFileSync("tshark", all, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
      maxBuffer: 2 ** 28,
    });
    return text.split("\n").filter((line) => line !== "");
  };
}
