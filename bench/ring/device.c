/* The device process: takes submissions as soon as the tail doorbell moves and completes each at once, in order. */
#include "../peer.h"
#include "layout.h"

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: device FILE\n");
    return 2;
  }
  uint8_t *base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  volatile uint32_t *sq = (volatile uint32_t *)(base + SQ_OFFSET);
  volatile uint32_t *cq = (volatile uint32_t *)(base + CQ_OFFSET);
  volatile uint32_t *tail_doorbell = (volatile uint32_t *)(base + DOORBELL_OFFSET);
  volatile uint32_t *stop = (volatile uint32_t *)(base + STOP_OFFSET);
  uint32_t head = 0, cq_tail = 0, phase = 1;
  puts("ready");
  fflush(stdout);
  while (!*stop) {
    uint32_t tail = *tail_doorbell % DEPTH;
    while (head != tail) {
      uint32_t command[16]; /* a controller fetches the whole entry */
      for (int i = 0; i < 16; i++) command[i] = sq[head * 16 + i];
      uint32_t cid = command[0] >> 16, status = (command[0] & 0xff) == 0x02 && command[1] == 1 ? 0 : 0x01;
      head = (head + 1) % DEPTH;
      volatile uint32_t *entry = cq + cq_tail * 4;
      entry[0] = 0;
      entry[1] = 0;
      entry[2] = head | 1u << 16;
      __atomic_thread_fence(__ATOMIC_RELEASE);
      entry[3] = cid | phase << 16 | status << 17;
      if (++cq_tail == DEPTH) {
        cq_tail = 0;
        phase ^= 1;
      }
    }
    __builtin_ia32_pause();
  }
  return 0;
}
