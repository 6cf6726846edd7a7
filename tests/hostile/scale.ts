// How much is tried: a minute or so by default, everything with RING3_HOSTILE=full. RING3_HOSTILE_SEED repeats a run.
const { RING3_HOSTILE, RING3_HOSTILE_SEED } = process.env;

export const FULL: boolean = RING3_HOSTILE === "full";

/** The same in every quick run, another one in each full one, unless told. */
export const SEED: number =
  RING3_HOSTILE_SEED === undefined
    ? FULL
      ? Math.floor(Math.random() * 2 ** 31)
      : 20_261_129
    : Number(RING3_HOSTILE_SEED);

/** `quick` or, in a full run, `full`. */
export function scaled(quick: number, full: number): number {
  return FULL ? full : quick;
}
