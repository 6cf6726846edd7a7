// What served network devices are plugged into: the far end alone where there is one of each, else a switch in this process
// that wires all devices and all links together.
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import type { NetLink } from "ring3/devices/virtio";
import { UsageError } from "../usage-error.ts";

/** A `--link`, parsed. */
export type LinkWords =
  | { readonly kind: "switch" }
  | { readonly kind: "tap"; readonly name: string }
  | { readonly kind: "stream"; readonly path: string };

export interface Network {
  /** A link for each device, in order. */
  readonly links: readonly NetLink[];
  /** For people: `a switch with 2 devices and tap:tap0`. */
  readonly description: string;
}

export function parseLink(text: string): LinkWords {
  if (text === "switch") return { kind: "switch" };
  const [, kind, rest = ""] = /^(tap|stream):(.+)$/s.exec(text) ?? [];
  if (kind === "tap") return { kind, name: rest };
  if (kind === "stream") return { kind, path: rest };
  throw new UsageError(`--link takes switch, tap:NAME or stream:PATH, not "${text}"`);
}

/** Opens the links and wires them to `devices` devices; disposal closes them. */
export async function openNetwork(
  words: readonly LinkWords[],
  devices: number,
  resources: { use<T extends Disposable>(resource: T): T },
): Promise<Network> {
  const far: { readonly name: string; readonly link: NetLink }[] = [];
  for (const word of words) {
    if (word.kind === "switch") continue;
    const { EthernetStream, Tap } = await import("ring3/linux");
    if (word.kind === "tap") far.push({ name: `tap:${word.name}`, link: resources.use(new Tap(word.name)) });
    else far.push({ name: `stream:${word.path}`, link: resources.use(new EthernetStream(word.path)) });
  }
  const names = far.map(({ name }) => name).join(", ");
  const [only] = far;
  if (devices === 1 && far.length === 1 && only !== undefined && words.length === 1) {
    return { links: [only.link], description: names };
  }
  if (devices === 1 && words.length === 0) {
    throw new UsageError(
      "the device is plugged into nothing: give --link tap:NAME, --link stream:PATH, or several --socket",
    );
  }
  const { EthernetSwitch } = await import("ring3/devices/virtio");
  const wires = new EthernetSwitch();
  for (const { name, link } of far) wires.connect(link, name);
  const links = Array.from({ length: devices }, (_, index) => wires.port(`device ${index + 1}`));
  const ports = `${devices} ${devices === 1 ? "device" : "devices"}`;
  return { links, description: `a switch with ${ports}${names === "" ? "" : ` and ${names}`}` };
}

/** An address from QEMU's range that stays the same from start to start: it follows from the socket's path. */
export function macFor(socket: string): string {
  const [a = 0, b = 0, c = 0] = createHash("sha256").update(resolve(socket)).digest();
  return `52:54:00:${[a, b, c].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;
}
