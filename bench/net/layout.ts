// What layout.h says, for the TypeScript side of the packet benchmark.
export const ENTRIES = 1024;
export const RECEIVE_OFFSET = 0x0;
export const TRANSMIT_OFFSET = 0x4000;
export const REGISTERS_OFFSET = 0x8000;
export const RECEIVE_TAIL = 0x818;
export const TRANSMIT_TAIL = 0xc18;
export const STOP_OFFSET = 0x9000;
export const ASKED_OFFSET = 0xa000;
export const DONE_OFFSET = 0xb000;
export const ARMED_OFFSET = 0xc000;
export const CABLE_OFFSET = 0xd000;
export const POOL_OFFSET = 0x1_0000;
export const BUFFERS = 4096;
export const BUFFER_BYTES = 2048;
export const HEADROOM = 64;
export const SHARED_SIZE: number = POOL_OFFSET + BUFFERS * BUFFER_BYTES;
