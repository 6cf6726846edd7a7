/* One layout for the virtio part of the packet benchmark: a pair of virtqueues, packed or split, and their buffers in shared
 * memory. virtio-layout.ts says the same for the TypeScript side. Addresses in descriptors are offsets into the memory. */
#include <stdint.h>

#define ENTRIES 1024u
#define RECEIVE_OFFSET 0x0u
#define TRANSMIT_OFFSET 0x8000u
/* In each ring: behind the descriptors, virtio 1.3 sections 2.7 and 2.8. */
#define AVAIL_AREA 0x4000u
#define USED_AREA 0x4840u
#define DEVICE_EVENT 0x4040u
#define NOTIFY_OFFSET 0x10000u
#define STOP_OFFSET 0x11000u
#define ASKED_OFFSET 0x12000u /* the driver counts up: fill and empty your rings */
#define DONE_OFFSET 0x13000u  /* the device follows */
#define POOL_OFFSET 0x20000u
#define BUFFERS 4096u
#define BUFFER_BYTES 2048u
#define HEADROOM 64u
#define SHARED_SIZE (POOL_OFFSET + BUFFERS * BUFFER_BYTES)

#define FRAME_BYTES 60u
#define MAXIMUM_FRAME 1518u
#define HEADER 12u
#define WRITE 2u
/* In the upper half of a packed descriptor's last word. */
#define AVAIL 0x00800000u
#define USED 0x80000000u
#define EVENT_DISABLE 0x10000u
