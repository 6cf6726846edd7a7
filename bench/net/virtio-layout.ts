// What virtio-layout.h says, for the TypeScript side of the virtio part of the packet benchmark.
export const ENTRIES = 1024;
export const RECEIVE_OFFSET = 0x0;
export const TRANSMIT_OFFSET = 0x8000;
export const NOTIFY_OFFSET = 0x1_0000;
export const STOP_OFFSET = 0x1_1000;
export const ASKED_OFFSET = 0x1_2000;
export const DONE_OFFSET = 0x1_3000;
export const POOL_OFFSET = 0x2_0000;
export const BUFFERS = 4096;
export const BUFFER_BYTES = 2048;
export const HEADROOM = 64;
export const SHARED_SIZE: number = POOL_OFFSET + BUFFERS * BUFFER_BYTES;
export const MAXIMUM_FRAME = 1518;
