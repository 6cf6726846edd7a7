/* The peer: receive a burst, touch a byte of each packet, send the burst, in C at -O2. Prints nanoseconds a packet. */
#include "rings.h"

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: driver FILE BATCH PACKETS\n");
    return 2;
  }
  if (open_rings(argv[1])) return 1;
  uint32_t batch = strtoul(argv[2], NULL, 10), packets = strtoul(argv[3], NULL, 10);
  uint8_t *pool = base + POOL_OFFSET;
  volatile uint32_t *asked = (volatile uint32_t *)(base + ASKED_OFFSET), *done = (volatile uint32_t *)(base + DONE_OFFSET);
  static struct packet burst[256];
  uint32_t turns = packets / ENTRIES + 1, bursts = (ENTRIES - 1) / batch;
  double spent = 0;
  for (uint32_t turn = 0; turn < 2 * turns; turn++) {
    *asked = turn + 1;
    while (*done != turn + 1) __builtin_ia32_pause();
    double start = now_ns();
    for (uint32_t i = 0; i < bursts; i++) {
      uint32_t count = receive_burst(burst, batch);
      if (count != batch) return 3;
      for (uint32_t j = 0; j < count; j++) pool[burst[j].place]++;
      if (transmit_burst(burst, count) != count) return 4;
    }
    if (turn >= turns) spent += now_ns() - start;
  }
  printf("%.3f\n", spent / turns / (bursts * batch));
  return errors != 0;
}
