/* The device process: an 82576 queue that, when asked, receives a 60-byte frame into every descriptor that it is given and takes
 * whatever is sent; descriptors are fetched and written back whole. Between two turns it leaves the rings alone, so that the
 * driver never waits for it and every burst is full. */
#include "../peer.h"
#include "layout.h"

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: device FILE\n");
    return 2;
  }
  uint8_t *base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  volatile uint64_t *receive = (volatile uint64_t *)(base + RECEIVE_OFFSET);
  volatile uint64_t *transmit = (volatile uint64_t *)(base + TRANSMIT_OFFSET);
  volatile uint32_t *receive_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + RECEIVE_TAIL);
  volatile uint32_t *transmit_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + TRANSMIT_TAIL);
  volatile uint32_t *asked = (volatile uint32_t *)(base + ASKED_OFFSET), *done = (volatile uint32_t *)(base + DONE_OFFSET);
  volatile uint32_t *stop = (volatile uint32_t *)(base + STOP_OFFSET);
  uint32_t receive_head = 0, transmit_head = 0, sequence = 0;
  uint64_t sent = 0;
  puts("ready");
  fflush(stdout);
  while (!*stop) {
    uint32_t turn = *asked;
    if (turn == *done) {
      __builtin_ia32_pause();
      continue;
    }
    uint32_t tail = *receive_tail % ENTRIES;
    while (receive_head != tail) {
      uint64_t buffer = receive[receive_head * 2];
      *(volatile uint32_t *)(base + buffer % SHARED_SIZE) = sequence++;
      receive[receive_head * 2] = 0;
      receive[receive_head * 2 + 1] = DD | EOP | (uint64_t)FRAME_BYTES << 32;
      receive_head = (receive_head + 1) % ENTRIES;
    }
    tail = *transmit_tail % ENTRIES;
    while (transmit_head != tail) {
      uint64_t buffer = transmit[transmit_head * 2], command = transmit[transmit_head * 2 + 1];
      sent += buffer; /* a device reads the packet; its memory would be the other core's for one line */
      if ((uint32_t)command & RS) transmit[transmit_head * 2 + 1] = command | (uint64_t)DD << 32;
      transmit_head = (transmit_head + 1) % ENTRIES;
    }
    *done = turn;
  }
  return sent == 1;
}
