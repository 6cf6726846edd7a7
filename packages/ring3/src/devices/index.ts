// What devices share with whoever serves them: where a disk's bytes are, and time. Each device has its own entry:
// `ring3/devices/nvme`, `ring3/devices/edu`, `ring3/devices/virtio`.
export { type BlockBacking, type Cancellation, memoryBacking, nullBacking } from "./block-backing.ts";
export { type DeviceClock, machineClock } from "./clock.ts";
