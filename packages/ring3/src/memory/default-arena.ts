// The arena that a thread uses where nobody says otherwise. It has one home, below every floor, so that a function in
// process and a socket's server share it, whichever of them comes first.
import { Arena } from "./arena.ts";

let threadArena: Arena | undefined;

/** This thread's arena, made at the first call: by `make`, which a floor that knows the system may give. */
export function defaultArena(make: () => Arena = () => Arena.create()): Arena {
  threadArena ??= make();
  return threadArena;
}
