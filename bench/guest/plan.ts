// What ring3 does in the guest, as the host asks for it, and how figures are named.

export type Pattern = "random" | "sequential";

/** Which face of the driver, and how it waits: the ring itself (polled), or one promise for each read in three modes. */
export type Face = "ring" | "polled" | "adaptive" | "interrupt";

/** Reads of 4 KiB, so many in flight. */
export interface Load {
  readonly pattern: Pattern;
  readonly depth: number;
}

export interface Ring3Case extends Load {
  readonly name: string;
  readonly face: Face;
}

/** Reads through one face of the driver until `over` says so; with `check` each read's contents are looked at. */
export interface Reader extends AsyncDisposable {
  run(over: (operations: number) => boolean, check?: boolean): Promise<Measured>;
}

/** What the program in the guest is given. */
export interface ReadPlan {
  readonly address: string;
  readonly namespaceId: number;
  readonly queueEntries: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  readonly cases: readonly Ring3Case[];
}

export interface Measured {
  readonly operations: number;
  readonly seconds: number;
}

/** What it prints for each case, as one line of JSON. */
export interface ReadFigure extends Measured {
  readonly name: string;
}

export const READ_BYTES = 4096;
export const DEPTHS: readonly number[] = [1, 32, 128];

const NAMES: Readonly<Record<Face, string>> = {
  ring: "ring3, ring face, polled",
  polled: "ring3, promises, polled",
  adaptive: "ring3, promises, adaptive",
  interrupt: "ring3, promises, interrupts",
};
const FACES: Readonly<Record<Pattern, readonly Face[]>> = {
  random: ["ring", "polled", "adaptive", "interrupt"],
  sequential: ["ring", "polled", "adaptive"],
};

/** The name of ring3's figures. */
export function ring3Name(face: Face): string {
  return NAMES[face];
}

/** Everything that ring3 is measured at. */
export function ring3Cases(): Ring3Case[] {
  return (["random", "sequential"] as const).flatMap((pattern) =>
    DEPTHS.flatMap((depth) => FACES[pattern].map((face) => ({ name: ring3Name(face), face, pattern, depth }))),
  );
}
