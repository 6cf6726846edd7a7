// What layout.h says, for the TypeScript side of the ring benchmark.
export const DEPTH = 1024;
export const CQ_OFFSET = 0x10000;
export const DOORBELL_OFFSET = 0x20000;
export const STOP_OFFSET = 0x21000;
export const SHARED_SIZE = 0x22000;
