// Where a command's data lies in guest memory: a list of address and size, kept in numbers and made anew for each command
// without allocating. Pages that follow each other become one piece.

/** Stands for the address of a piece that nothing is written to (a bit bucket). */
export const NOWHERE = -1;

export class Segments {
  /** Pieces in use. */
  count = 0;
  /** Bytes of all pieces. */
  sizeBytes = 0;
  iovas: Float64Array = new Float64Array(64);
  sizes: Float64Array = new Float64Array(64);

  clear(): void {
    this.count = 0;
    this.sizeBytes = 0;
  }

  add(iova: number, size: number): void {
    const { count } = this;
    this.sizeBytes += size;
    if (count > 0) {
      const last = this.iovas[count - 1] as number;
      const lastSize = this.sizes[count - 1] as number;
      if (iova === NOWHERE ? last === NOWHERE : last !== NOWHERE && last + lastSize === iova) {
        this.sizes[count - 1] = lastSize + size;
        return;
      }
      if (count === this.iovas.length) this.#grow();
    }
    this.iovas[count] = iova;
    this.sizes[count] = size;
    this.count = count + 1;
  }

  /** A copy that outlives the command's synchronous part. */
  snapshot(): Segments {
    const copy = new Segments();
    copy.count = this.count;
    copy.sizeBytes = this.sizeBytes;
    copy.iovas = this.iovas.slice(0, Math.max(1, this.count));
    copy.sizes = this.sizes.slice(0, Math.max(1, this.count));
    return copy;
  }

  #grow(): void {
    const iovas = new Float64Array(2 * this.iovas.length);
    const sizes = new Float64Array(iovas.length);
    iovas.set(this.iovas);
    sizes.set(this.sizes);
    this.iovas = iovas;
    this.sizes = sizes;
  }
}
