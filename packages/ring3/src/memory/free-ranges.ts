// The free part of an address space as disjoint ranges, in a treap ordered by address. Each node knows the longest range
// below it, so a search for space skips whole subtrees. Addresses are exact numbers below 2^53.

interface Node {
  start: number;
  /** Exclusive. */
  end: number;
  /** Length of the longest range in this subtree. */
  longest: number;
  priority: number;
  left: Node | undefined;
  right: Node | undefined;
}

/** Where a run may lie: aligned to `alignment` (a power of two), at `low` or above, ending at `high` or below. */
export interface Placement {
  readonly alignment: number;
  readonly low: number;
  readonly high: number;
}

/** Candidates looked at one by one before the search asks for a range that fits whatever its alignment. */
const CANDIDATES = 64;

/**
 * A set of free ranges with coalescing. Giving, taking and searching are O(log n); only a search that is about to fail,
 * or that finds nothing but misaligned pieces, looks at every candidate.
 */
export class FreeRanges {
  #root: Node | undefined;
  #seed = 0x2545f491;
  #count = 0;
  #bytes = 0;

  /** How many separate ranges are free. */
  get count(): number {
    return this.#count;
  }

  /** How many bytes are free altogether. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Length of the longest free range. */
  get longest(): number {
    return this.#root?.longest ?? 0;
  }

  /** Adds a range, joined with its neighbours. Throws `RangeError` where a part of it is free already. */
  give(start: number, size: number): void {
    const end = start + size;
    if (!(Number.isSafeInteger(start) && start >= 0 && size > 0 && end <= 2 ** 53)) {
      throw new RangeError(`not a range: ${size} bytes at ${start}`);
    }
    const before = this.#atOrBelow(end - 1);
    if (before !== undefined && before.end > start) {
      throw new RangeError(`${size} bytes at 0x${start.toString(16)} overlap what is free already`);
    }
    let first = start;
    let last = end;
    if (before !== undefined && before.end === start) {
      first = before.start;
      this.#remove(before);
    }
    const after = this.#atOrBelow(end);
    if (after !== undefined && after.start === end) {
      last = after.end;
      this.#remove(after);
    }
    this.#insert(first, last);
  }

  /** Takes `size` bytes at the lowest place that the search finds; `undefined` where there is none. */
  take(size: number, placement: Placement): number | undefined {
    if (!(Number.isSafeInteger(size) && size > 0)) throw new RangeError(`not a size: ${size}`);
    const found =
      search(this.#root, size, size, placement, { left: CANDIDATES }) ??
      search(this.#root, size, size + placement.alignment - 1, placement, { left: CANDIDATES }) ??
      search(this.#root, size, size, placement, { left: Number.POSITIVE_INFINITY });
    if (found === undefined) return undefined;
    this.#carve(found.node, found.start, size);
    return found.start;
  }

  /** Takes exactly this range; `false`, and nothing taken, where not all of it is free. */
  takeAt(start: number, size: number): boolean {
    const node = this.#atOrBelow(start);
    if (node === undefined || size <= 0 || start + size > node.end) return false;
    this.#carve(node, start, size);
    return true;
  }

  /** Whether all of this range is free. */
  has(start: number, size: number): boolean {
    const node = this.#atOrBelow(start);
    return node !== undefined && start + size <= node.end;
  }

  /** The free ranges, ascending, as `[start, size]`. */
  *[Symbol.iterator](): Generator<readonly [start: number, size: number]> {
    const path: Node[] = [];
    for (let node = this.#root; node !== undefined || path.length > 0; ) {
      while (node !== undefined) {
        path.push(node);
        node = node.left;
      }
      const next = path.pop() as Node;
      yield [next.start, next.end - next.start];
      node = next.right;
    }
  }

  #atOrBelow(address: number): Node | undefined {
    let best: Node | undefined;
    for (let node = this.#root; node !== undefined; ) {
      if (node.start <= address) {
        best = node;
        node = node.right;
      } else node = node.left;
    }
    return best;
  }

  #carve(node: Node, start: number, size: number): void {
    const { start: first, end: last } = node;
    this.#remove(node);
    if (first < start) this.#insert(first, start);
    if (start + size < last) this.#insert(start + size, last);
  }

  #insert(start: number, end: number): void {
    // xorshift32: the priorities need only be independent of the addresses
    let seed = this.#seed;
    seed ^= seed << 13;
    seed ^= seed >>> 17;
    seed ^= seed << 5;
    this.#seed = seed;
    const node: Node = { start, end, longest: end - start, priority: seed, left: undefined, right: undefined };
    const [below, above] = split(this.#root, start);
    this.#root = merge(merge(below, node), above);
    this.#count++;
    this.#bytes += end - start;
  }

  #remove(node: Node): void {
    const [below, rest] = split(this.#root, node.start);
    const [, above] = split(rest, node.start + 1);
    this.#root = merge(below, above);
    this.#count--;
    this.#bytes -= node.end - node.start;
  }
}

function refresh(node: Node): Node {
  node.longest = Math.max(node.end - node.start, node.left?.longest ?? 0, node.right?.longest ?? 0);
  return node;
}

/** Parts a tree into the ranges that start below `key` and the others. */
function split(node: Node | undefined, key: number): [Node | undefined, Node | undefined] {
  if (node === undefined) return [undefined, undefined];
  if (node.start < key) {
    const [below, above] = split(node.right, key);
    node.right = below;
    return [refresh(node), above];
  }
  const [below, above] = split(node.left, key);
  node.left = above;
  return [below, refresh(node)];
}

function merge(below: Node | undefined, above: Node | undefined): Node | undefined {
  if (below === undefined) return above;
  if (above === undefined) return below;
  if (below.priority > above.priority) {
    below.right = merge(below.right, above);
    return refresh(below);
  }
  above.left = merge(below, above.left);
  return refresh(above);
}

/** The lowest fit among ranges of at least `atLeast` bytes, giving up after `budget.left` candidates. */
function search(
  node: Node | undefined,
  size: number,
  atLeast: number,
  placement: Placement,
  budget: { left: number },
): { readonly node: Node; readonly start: number } | undefined {
  if (node === undefined || node.longest < atLeast || budget.left <= 0) return undefined;
  if (node.start > placement.low) {
    const found = search(node.left, size, atLeast, placement, budget);
    if (found !== undefined) return found;
  }
  if (node.start >= placement.high) return undefined;
  if (node.end - node.start >= atLeast) {
    budget.left--;
    const lowest = Math.max(node.start, placement.low);
    const start = Math.ceil(lowest / placement.alignment) * placement.alignment;
    if (start + size <= Math.min(node.end, placement.high)) return { node, start };
  }
  return search(node.right, size, atLeast, placement, budget);
}
