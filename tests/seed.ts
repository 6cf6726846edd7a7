// Loaded before every test file by scripts/test.ts. Generated cases are the same in each run, so that a landing is judged by
// its change and not by luck; RING3_SEED=random (or a number) looks further, and is for whoever has the time to read what falls out.
import fc from "fast-check";

const wanted = process.env["RING3_SEED"] ?? "20261129";
if (wanted !== "random") {
  const seed = Number(wanted);
  if (!Number.isInteger(seed)) throw new Error(`RING3_SEED="${wanted}" is neither a whole number nor "random"`);
  fc.configureGlobal({ seed });
}
