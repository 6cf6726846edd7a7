/* The device process of the round trips: an 82576 queue on a cable that ends in itself. What is sent is received when it has
 * been on its way for as long as the cable says, with an interrupt where the driver has armed it. */
#include "../peer.h"
#include "layout.h"
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: echo-device FILE 3<EVENTFD\n");
    return 2;
  }
  uint8_t *base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  volatile uint64_t *receive = (volatile uint64_t *)(base + RECEIVE_OFFSET);
  volatile uint64_t *transmit = (volatile uint64_t *)(base + TRANSMIT_OFFSET);
  volatile uint32_t *receive_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + RECEIVE_TAIL);
  volatile uint32_t *transmit_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + TRANSMIT_TAIL);
  volatile uint32_t *armed = (volatile uint32_t *)(base + ARMED_OFFSET);
  volatile uint32_t *cable = (volatile uint32_t *)(base + CABLE_OFFSET);
  volatile uint32_t *stop = (volatile uint32_t *)(base + STOP_OFFSET);
  uint32_t receive_head = 0, transmit_head = 0;
  puts("ready");
  fflush(stdout);
  while (!*stop) {
    if (transmit_head == *transmit_tail % ENTRIES || receive_head == *receive_tail % ENTRIES) {
      __builtin_ia32_pause();
      continue;
    }
    if (*cable > 0) {
      double arrival = now_ns() + *cable;
      while (now_ns() < arrival) __builtin_ia32_pause();
    }
    uint64_t from = transmit[transmit_head * 2] % (SHARED_SIZE - FRAME_BYTES), command = transmit[transmit_head * 2 + 1];
    uint64_t to = receive[receive_head * 2] % (SHARED_SIZE - FRAME_BYTES);
    memcpy(base + to, base + from, FRAME_BYTES);
    if ((uint32_t)command & RS) transmit[transmit_head * 2 + 1] = command | (uint64_t)DD << 32;
    transmit_head = (transmit_head + 1) % ENTRIES;
    receive[receive_head * 2] = 0;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    receive[receive_head * 2 + 1] = DD | EOP | (uint64_t)FRAME_BYTES << 32;
    receive_head = (receive_head + 1) % ENTRIES;
    /* The driver arms and then looks; we report and then look whether it has armed. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!*armed) continue;
    *armed = 0;
    if (write(INTERRUPT_FD, &(uint64_t){1}, 8) != 8) {
      perror("eventfd");
      return 1;
    }
  }
  return 0;
}
