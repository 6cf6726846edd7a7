// The registers of a modern virtio function by place, for traces and fault plans. Virtio 1.3, section 4.1.4. Hard about it:
// where the structures lie, the function's vendor capabilities say, so a map is made for one function.
import type { DeviceRegisters, PlacedRegister, RegisterMap } from "../../binary/register-map.ts";
import { DeviceStatus, IsrStatus, VIRTIO_COMMON_SIZE, VirtioCapability, VirtioCommon } from "./registers.ts";

/** Where a structure lies: what a `virtio_pci_cap` says. */
export interface VirtioPlace {
  /** `cfg_type`. */
  readonly type: number;
  readonly bar: number;
  readonly offset: number;
  readonly size: number;
  /** `notify_off_multiplier`, of NOTIFY. */
  readonly multiplier?: number;
}

/** Notify registers that get a name of their own. */
const NOTIFIED_QUEUES = 64;

/** The registers of a function whose structures lie at `places`. */
export function virtioRegisters(places: readonly VirtioPlace[]): DeviceRegisters {
  const bars: Record<number, PlacedRegister[]> = {};
  for (const place of places) (bars[place.bar] ??= []).push(...registersAt(place));
  return { name: "virtio", bars };
}

function registersAt({ type, offset, size, multiplier = 0 }: VirtioPlace): RegisterMap {
  if (type === VirtioCapability.COMMON) return commonRegisters(offset);
  if (type === VirtioCapability.ISR) return [{ name: "ISR", offset, width: 1, fields: IsrStatus }];
  if (type !== VirtioCapability.NOTIFY) return [];
  if (multiplier < 2) return [{ name: "NOTIFY", offset, width: 2 }];
  const count = Math.min(NOTIFIED_QUEUES, Math.floor((size - 2) / multiplier) + 1);
  return Array.from({ length: Math.max(0, count) }, (_, queue) => ({
    name: `NOTIFY${queue}`,
    offset: offset + queue * multiplier,
    width: multiplier >= 4 ? 4 : 2,
  }));
}

/** A register is as wide as the way to the next one. */
function commonRegisters(start: number): RegisterMap {
  const entries = Object.entries(VirtioCommon);
  return entries.map(([name, offset], index): PlacedRegister => {
    const width = ((entries[index + 1]?.[1] ?? VIRTIO_COMMON_SIZE) - offset) as 1 | 2 | 4;
    const fields = name === "DEVICE_STATUS" ? { fields: DeviceStatus } : {};
    return { name, offset: start + offset, width, ...fields };
  });
}
