/* The peer of the round trips: sends one frame and waits until it is back, by looking or by an eventfd. Prints a line of latencies
 * in nanoseconds without the cable's (p50, p99, p99.9, the most) and how often the scheduler took the processor away. */
#include "rings.h"
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void wait_for_interrupt(void) {
  volatile uint32_t *armed = (volatile uint32_t *)(base + ARMED_OFFSET);
  __atomic_store_n(armed, 1, __ATOMIC_SEQ_CST);
  if (receive[receive_head * 2 + 1] & DD) return;
  struct pollfd interrupt = {.fd = INTERRUPT_FD, .events = POLLIN};
  poll(&interrupt, 1, -1);
  uint64_t count;
  if (read(INTERRUPT_FD, &count, 8) < 0) return; /* an earlier one, taken already: look again */
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: echo-driver FILE polled|interrupt ROUND-TRIPS 3<EVENTFD\n");
    return 2;
  }
  if (open_rings(argv[1])) return 1;
  int interrupts = strcmp(argv[2], "interrupt") == 0;
  uint32_t count = strtoul(argv[3], NULL, 10), warm = count / 10;
  uint32_t cable = *(volatile uint32_t *)(base + CABLE_OFFSET);
  double *took = malloc(count * sizeof *took);
  struct packet packet = {.place = stack[--unused] + HEADROOM};
  struct rusage before, after;
  for (uint32_t i = 0; i < warm + count; i++) {
    if (i == warm) getrusage(RUSAGE_SELF, &before);
    packet.length = FRAME_BYTES;
    packet.flags = packet.offload = 0;
    double start = now_ns();
    if (transmit_burst(&packet, 1) != 1) return 4;
    while (receive_burst(&packet, 1) == 0) {
      if (interrupts) wait_for_interrupt();
    }
    if (i >= warm) took[i - warm] = now_ns() - start - cable;
  }
  getrusage(RUSAGE_SELF, &after);
  qsort(took, count, sizeof *took, ascending);
  printf("%.0f %.0f %.0f %.0f %ld\n", took[count / 2], took[(uint32_t)(count * 0.99)], took[(uint32_t)(count * 0.999)],
         took[count - 1], after.ru_nivcsw - before.ru_nivcsw);
  return errors != 0;
}
