// Options of every virtio device that ring3 serves.

export const VIRTIO_OPTIONS = {
  "queue-size": {
    kind: "integer",
    value: "N",
    minimum: 2n,
    maximum: 1024n,
    initial: 256n,
    description: "entries of a queue at most, a power of two",
  },
  "no-packed": { kind: "flag", description: "offer split rings only" },
} as const;

/** Values of {@link VIRTIO_OPTIONS}. */
interface VirtioWords {
  readonly "queue-size": bigint;
  readonly "no-packed": boolean;
}

/** What the devices take of them. */
export function virtioSettings(words: VirtioWords): { readonly queueSize: number; readonly packed: boolean } {
  return { queueSize: Number(words["queue-size"]), packed: !words["no-packed"] };
}
