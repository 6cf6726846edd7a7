// All attacks, and the places where they are tried: the table of docs/security.md is made of both.
import type { Attack, Trait } from "./attack.ts";
import { barAttacks, interruptAttacks } from "./bars.ts";
import { configAttacks } from "./config-space.ts";
import { dmaAttacks } from "./dma.ts";
import { handOverAttacks, protocolAttacks } from "./hand-over.ts";
import { serviceAttacks } from "./service.ts";

export const attacks: readonly Attack[] = [
  ...dmaAttacks,
  ...configAttacks,
  ...barAttacks,
  ...interruptAttacks,
  ...handOverAttacks,
  ...protocolAttacks,
  ...serviceAttacks,
];

/** What the function of `target-device.ts` has. */
const TARGET: readonly Trait[] = [
  "dma",
  "dma-unbidden",
  "raise",
  "msi",
  "msix",
  "msix-table",
  "flr",
  "pm",
  "vendor-specific",
  "rebar",
  "mark",
  "quick-reset",
  "ranges",
];
/** What a service has in the guest, where the kernel's VFIO and an IOMMU are. */
const GUEST: readonly Trait[] = ["message-window", "service", "unprivileged"];

/**
 * Where attacks are tried: `library` is `mediate()` and the server in the attacker's own process; `ring3d` a service on the
 * host, before another process that serves the function; the others are functions of QEMU's with a service in the guest, whose
 * neighbour is another uid.
 */
export type PlaceName = "library" | "ring3d" | "nvme" | "edu" | "vf";

/** What is there. */
const places: Readonly<Record<PlaceName, readonly Trait[]>> = {
  library: [...TARGET, "message-window", "same-user", "same-process"],
  ring3d: [...TARGET, "service", "same-user", "not-lent"],
  nvme: [...GUEST, "dma", "dma-unbidden", "msix", "msix-table", "flr", "pm", "mark", "quick-reset", "ranges", "lent"],
  edu: [...GUEST, "dma", "dma-unbidden", "msi", "not-lent"],
  vf: [...GUEST, "msix", "flr", "quick-reset", "not-lent"],
};

/** The attacks that can be tried there. */
export function attacksAt(place: PlaceName): readonly Attack[] {
  const there = places[place];
  return attacks.filter(({ needs = [] }) => needs.every((trait) => there.includes(trait)));
}
