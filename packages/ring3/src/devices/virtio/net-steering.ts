// Automatic receive steering: virtio 1.3, section 5.1.6.5.6. What comes for a flow goes to the pair of queues on which the
// driver sent for it last; both directions of a flow have one hash.

const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const VLAN = 0x8100;
const TCP = 6;
const UDP = 17;
const SLOTS = 1024;

export class FlowSteering {
  /** Pair plus one by hash; 0: nothing was sent. */
  readonly #pairs: Uint8Array = new Uint8Array(SLOTS);

  reset(): void {
    this.#pairs.fill(0);
  }

  /** The driver sent `frame` on `pair`. */
  learn(frame: Uint8Array, pair: number): void {
    const hash = flowHash(frame);
    if (hash >= 0) this.#pairs[hash % SLOTS] = pair + 1;
  }

  /** The pair, out of `active`, that gets `frame`. */
  choose(frame: Uint8Array, active: number): number {
    if (active === 1) return 0;
    const hash = flowHash(frame);
    if (hash < 0) return 0;
    const learnt = this.#pairs[hash % SLOTS] as number;
    return learnt > 0 && learnt <= active ? learnt - 1 : hash % active;
  }
}

/** A number that both directions of an IP flow share; -1 for anything else. */
export function flowHash(frame: Uint8Array): number {
  let at = 12;
  let type = half(frame, at);
  if (type === VLAN) {
    at += 4;
    type = half(frame, at);
  }
  at += 2;
  if (type === IPV4) {
    if (frame.length < at + 20) return -1;
    const protocol = frame[at + 9] as number;
    const fragment = (half(frame, at + 6) & 0x3fff) !== 0;
    const ports = fragment ? 0 : portsAt(frame, at + 4 * ((frame[at] as number) & 15), protocol);
    return mix(word(frame, at + 12) ^ word(frame, at + 16), ports, protocol);
  }
  if (type === IPV6) {
    if (frame.length < at + 40) return -1;
    const protocol = frame[at + 6] as number;
    let addresses = 0;
    for (let i = 8; i < 40; i += 4) addresses ^= word(frame, at + i);
    return mix(addresses, portsAt(frame, at + 40, protocol), protocol);
  }
  return -1;
}

function portsAt(frame: Uint8Array, at: number, protocol: number): number {
  return (protocol === TCP || protocol === UDP) && frame.length >= at + 4 ? half(frame, at) ^ half(frame, at + 2) : 0;
}

function mix(addresses: number, ports: number, protocol: number): number {
  let hash = Math.imul(addresses ^ (ports << 16) ^ ports ^ protocol, 0x9e37_79b1);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x85eb_ca77) >>> 1;
}

function half(frame: Uint8Array, at: number): number {
  return at + 1 < frame.length ? ((frame[at] as number) << 8) | (frame[at + 1] as number) : 0;
}

function word(frame: Uint8Array, at: number): number {
  return (half(frame, at) << 16) | half(frame, at + 2);
}
