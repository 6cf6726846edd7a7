// What the programs of the memory benchmark print.

/** How far an idle process has come. */
export const STAGES = ["bare", "imported", "opened", "started"] as const;
export type Stage = (typeof STAGES)[number];

/** Resident memory as the kernel counts it, in bytes. */
export interface Resident {
  readonly total: number;
  readonly anonymous: number;
  readonly file: number;
  readonly shared: number;
}

/** Memory after so many operations, after a full collection, in bytes. */
export interface Mark {
  readonly operations: number;
  readonly heap: number;
  /** External memory, which array buffers are a part of. */
  readonly external: number;
  readonly resident: Resident;
}

export interface Growth {
  readonly marks: readonly Mark[];
  /** Collections while the last quarter ran, none of them asked for. */
  readonly collections: number;
  readonly operationsBetween: number;
}
