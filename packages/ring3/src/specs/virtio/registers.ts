// Registers of a modern virtio function on PCI: the structures that its vendor capabilities point to, the device status
// and the interrupt status. Virtio 1.3, sections 2.1 and 4.1.
import { type Fields, fields } from "../../binary/layout.ts";

/** Vendor of every virtio function, section 4.1.2. */
export const VIRTIO_VENDOR_ID = 0x1af4;
/** Added to the virtio device id it gives the PCI device id of a modern function, section 4.1.2. */
export const VIRTIO_DEVICE_ID_BASE = 0x1040;
/** Virtio device ids, section 5. */
export const VirtioDeviceId = { NET: 1, BLOCK: 2 } as const;

/** Values of `cfg_type`, section 4.1.4. */
export const VirtioCapability = {
  COMMON: 1,
  NOTIFY: 2,
  ISR: 3,
  DEVICE: 4,
  PCI: 5,
  SHARED_MEMORY: 8,
  VENDOR: 9,
} as const;
/** Offsets in struct virtio_pci_cap and in what follows it, from the capability's first byte, section 4.1.4. */
export const VirtioCapabilityField = {
  LENGTH: 2,
  TYPE: 3,
  BAR: 4,
  ID: 5,
  REGION_OFFSET: 8,
  REGION_LENGTH: 12,
  /** NOTIFY only, section 4.1.4.4. */
  NOTIFY_MULTIPLIER: 16,
  /** PCI only, section 4.1.4.9. */
  DATA: 16,
} as const;
/** Sizes of the capabilities in bytes. */
export const VirtioCapabilitySize = { PLAIN: 16, NOTIFY: 20, PCI: 20 } as const;

/** Offsets in the common configuration structure, section 4.1.4.3. Fields of 64 bits are two of 32. */
export const VirtioCommon = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_MSIX_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  DEVICE_STATUS: 0x14,
  CONFIG_GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_MSIX_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC_LOW: 0x20,
  QUEUE_DESC_HIGH: 0x24,
  QUEUE_DRIVER_LOW: 0x28,
  QUEUE_DRIVER_HIGH: 0x2c,
  QUEUE_DEVICE_LOW: 0x30,
  QUEUE_DEVICE_HIGH: 0x34,
  QUEUE_NOTIFY_DATA: 0x38,
  QUEUE_RESET: 0x3a,
  ADMIN_QUEUE_INDEX: 0x3c,
  ADMIN_QUEUE_NUM: 0x3e,
} as const;
/** Size of the common configuration structure in bytes. */
export const VIRTIO_COMMON_SIZE = 0x40;
/** Written to a vector field: no interrupt, section 4.1.5.1.2. */
export const VIRTIO_NO_VECTOR = 0xffff;

const deviceStatusBits = {
  ACKNOWLEDGE: [0],
  DRIVER: [1],
  DRIVER_OK: [2],
  FEATURES_OK: [3],
  DEVICE_NEEDS_RESET: [6],
  FAILED: [7],
} as const;
/** device_status, section 2.1. */
export const DeviceStatus: Fields<typeof deviceStatusBits> = fields(deviceStatusBits);

const isrBits = { QUEUE: [0], CONFIG: [1] } as const;
/** ISR status, section 4.1.4.5: reading it clears it and takes the line down. */
export const IsrStatus: Fields<typeof isrBits> = fields(isrBits);
