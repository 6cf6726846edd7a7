/* One page layout for the ring benchmark: an NVMe submission and completion queue and their doorbells in shared memory.
 * layout.ts says the same for the TypeScript side. */
#include <stdint.h>

#define DEPTH 1024u
#define SQ_OFFSET 0x0u
#define CQ_OFFSET 0x10000u
#define DOORBELL_OFFSET 0x20000u /* SQ tail at +0, CQ head at +4, as CAP.DSTRD = 0 has them */
#define STOP_OFFSET 0x21000u
#define SHARED_SIZE 0x22000u
