// Where iommu.test.ts plugs what it serves, for the host and for what runs in the guest.

/** Bound to vfio-pci: ring3's own stack drives them over the kernel's VFIO. */
export const SERVED_EDU = "0000:01:00.0";
export const SERVED_NVME = "0000:02:00.0";
/** An edu with advanced features. */
export const SERVED_AF = "0000:04:00.0";
/** With the kernel's own driver. */
export const KERNEL_NVME = "0000:03:00.0";

/** The blocks of `SERVED_NVME`. */
export const BLOCK_SIZE = 4096;
export const BLOCKS = 2048;
