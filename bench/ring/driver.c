/* The peer: submit and reap a batch of reads in C at -O2, the loop that the TypeScript and the emitted ring are held to.
 * Prints nanoseconds per operation, one line for each round. */
#include "../peer.h"
#include "layout.h"
#include <stdlib.h>

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: driver FILE BATCH OPERATIONS ROUNDS\n");
    return 2;
  }
  uint8_t *base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  uint32_t batch = strtoul(argv[2], NULL, 10), operations = strtoul(argv[3], NULL, 10), rounds = strtoul(argv[4], NULL, 10);
  volatile uint32_t *sq = (volatile uint32_t *)(base + SQ_OFFSET);
  volatile uint32_t *cq = (volatile uint32_t *)(base + CQ_OFFSET);
  volatile uint32_t *doorbell = (volatile uint32_t *)(base + DOORBELL_OFFSET);
  uint32_t tail = 0, head = 0, phase = 1, sq_head = 0;
  uint64_t block = 0;
  static uint32_t reaped_words[DEPTH * 2]; /* status and dword 0, as ring3 keeps them */
  for (uint32_t round = 0; round < rounds; round++) {
    double start = now_ns();
    for (uint32_t done = 0; done < operations; done += batch) {
      for (uint32_t i = 0; i < batch; i++) {
        uint32_t next = tail + 1 == DEPTH ? 0 : tail + 1;
        if (next == sq_head) return 5;
        volatile uint32_t *entry = sq + tail * 16;
        uint64_t data = 0x100000ull + (uint64_t)(tail & 127) * 4096;
        entry[0] = 0x02 | tail << 16;
        entry[1] = 1;
        entry[2] = entry[3] = entry[4] = entry[5] = 0;
        entry[6] = (uint32_t)data;
        entry[7] = (uint32_t)(data >> 32);
        entry[8] = 0;
        entry[9] = 0;
        entry[10] = (uint32_t)block;
        entry[11] = (uint32_t)(block >> 32);
        entry[12] = 7;
        entry[13] = entry[14] = entry[15] = 0;
        block += 8;
        tail = next;
      }
      doorbell[1] = head;
      doorbell[0] = tail;
      for (uint32_t reaped = 0; reaped < batch;) {
        uint32_t status = cq[head * 4 + 3];
        if ((status >> 16 & 1) != phase) continue;
        uint32_t queue = cq[head * 4 + 2];
        uint32_t reported = queue & 0xffff;
        uint32_t known = tail - sq_head + (tail < sq_head ? DEPTH : 0);
        uint32_t consumed = reported - sq_head + (reported < sq_head ? DEPTH : 0);
        if (queue >> 16 != 1 || reported >= DEPTH || consumed > known) return 4;
        sq_head = reported;
        reaped_words[reaped * 2] = status;
        reaped_words[reaped * 2 + 1] = cq[head * 4];
        if (++head == DEPTH) {
          head = 0;
          phase ^= 1;
        }
        reaped++;
      }
      for (uint32_t i = 0; i < batch; i++)
        if (reaped_words[i * 2] >> 17 != 0) return 3;
    }
    printf("%.3f\n", (now_ns() - start) / operations);
    fflush(stdout);
  }
  return 0;
}
