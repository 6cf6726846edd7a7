// The capabilities that say where a virtio function's structures lie, and the one that is a window on them for software
// that cannot reach the BAR: virtio 1.3, sections 4.1.4 and 4.1.4.9. Hard about the window: reading its data register is
// an access to the device, with all that this does.
import type { BarIndex } from "../../pci/function.ts";
import { capability, type Declared } from "../../pci/register.ts";
import { VirtioCapability, VirtioCapabilityField, VirtioCapabilitySize } from "../../specs/virtio/registers.ts";
import { type CapabilityBuilder, vendorSpecific } from "../../virtual/index.ts";

/** Where a structure lies. */
export interface VirtioRegion {
  readonly bar: BarIndex;
  readonly offset: number;
  readonly size: number;
}

/** The capability of one structure; `multiplier` is NOTIFY's. */
export function virtioCapability(
  type: keyof typeof VirtioCapability,
  region: VirtioRegion,
  multiplier?: number,
): CapabilityBuilder {
  const size = multiplier === undefined ? VirtioCapabilitySize.PLAIN : VirtioCapabilitySize.NOTIFY;
  // The builder writes the head: id, pointer and length.
  const head = 3;
  const content = new Uint8Array(size - head);
  const view = new DataView(content.buffer);
  view.setUint8(VirtioCapabilityField.TYPE - head, VirtioCapability[type]);
  view.setUint8(VirtioCapabilityField.BAR - head, region.bar);
  view.setUint32(VirtioCapabilityField.REGION_OFFSET - head, region.offset, true);
  view.setUint32(VirtioCapabilityField.REGION_LENGTH - head, region.size, true);
  if (multiplier !== undefined) view.setUint32(VirtioCapabilityField.NOTIFY_MULTIPLIER - head, multiplier, true);
  return vendorSpecific({ content });
}

const windowRegisters = {
  LENGTH: { at: [0x02, 8], VALUE: ["RO", 0, 8] },
  TYPE: { at: [0x03, 8], VALUE: ["RO", 0, 8] },
  BAR: { at: [0x04, 8], VALUE: ["RW", 0, 8] },
  REGION_OFFSET: { at: [0x08, 32], VALUE: ["RW", 0, 32] },
  REGION_LENGTH: { at: [0x0c, 32], VALUE: ["RW", 0, 32] },
  DATA: { at: [0x10, 32], VALUE: ["RW", 0, 32] },
} as const;
/** struct virtio_pci_cfg_cap, section 4.1.4.9. */
const VirtioWindow: Declared<typeof windowRegisters> = capability("VIRTIO-PCI-CFG", 0x09, windowRegisters);

/** What the window does to the BARs. */
export interface WindowAccess {
  read(bar: number, offset: number, width: 1 | 2 | 4): number;
  write(bar: number, offset: number, width: 1 | 2 | 4, value: number): void;
}

/** The window. Lengths other than 1, 2 and 4, and offsets that are no multiple of them, do nothing. */
export function virtioWindow(access: WindowAccess): CapabilityBuilder {
  return {
    group: VirtioWindow,
    size: VirtioCapabilitySize.PCI,
    repeatable: true,
    build(place) {
      place.preset(VirtioWindow.LENGTH, { VALUE: VirtioCapabilitySize.PCI });
      place.preset(VirtioWindow.TYPE, { VALUE: VirtioCapability.PCI });
      place.constant(VirtioWindow.LENGTH);
      place.constant(VirtioWindow.TYPE);
      const target = (): { bar: number; offset: number; width: 1 | 2 | 4 } | undefined => {
        const width = place.read(VirtioWindow.REGION_LENGTH);
        const offset = place.read(VirtioWindow.REGION_OFFSET);
        if ((width !== 1 && width !== 2 && width !== 4) || offset % width !== 0) return undefined;
        return { bar: place.read(VirtioWindow.BAR), offset, width };
      };
      place.onWrite(VirtioWindow.DATA, ({ value }) => {
        const at = target();
        if (at !== undefined)
          access.write(at.bar, at.offset, at.width, at.width === 4 ? value : value % 2 ** (8 * at.width));
      });
      place.onRead(VirtioWindow.DATA, () => {
        const at = target();
        if (at !== undefined) place.set(VirtioWindow.DATA, { VALUE: access.read(at.bar, at.offset, at.width) });
      });
    },
  };
}
