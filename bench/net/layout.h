/* One layout for the packet benchmark: descriptors, tail registers and buffers of a gigabit queue in shared memory.
 * layout.ts says the same for the TypeScript side. Addresses in descriptors are offsets into the memory. */
#include <stdint.h>

#define ENTRIES 1024u
#define RECEIVE_OFFSET 0x0u
#define TRANSMIT_OFFSET 0x4000u
#define REGISTERS_OFFSET 0x8000u
#define RECEIVE_TAIL 0x818u
#define TRANSMIT_TAIL 0xc18u
#define STOP_OFFSET 0x9000u
#define ASKED_OFFSET 0xa000u /* the driver counts up: fill and empty your rings */
#define DONE_OFFSET 0xb000u  /* the device follows */
#define ARMED_OFFSET 0xc000u /* the driver stores 1: interrupt at the next packet; the device takes it back */
#define CABLE_OFFSET 0xd000u /* nanoseconds that a packet is on its way */
#define POOL_OFFSET 0x10000u
#define BUFFERS 4096u
#define BUFFER_BYTES 2048u
#define HEADROOM 64u
#define INTERRUPT_FD 3 /* the eventfd that the device signals and the driver in C waits for */
#define SHARED_SIZE (POOL_OFFSET + BUFFERS * BUFFER_BYTES)

#define FRAME_BYTES 60u
#define DD 1u
#define EOP 2u
#define DATA 0x23300000u /* DEXT, IFCS, EOP, a data descriptor of the 82576 */
#define RS 0x08000000u
