/* The device process: a pair of virtqueues that, when asked, receives a 60-byte frame into every buffer that it is given and takes
 * whatever is sent. It wants no notifications, as a device that polls. Between two turns it leaves the rings alone, so that the
 * driver never waits for it and every burst is full. */
#include "../peer.h"
#include "virtio-layout.h"
#include <string.h>

struct queue {
  uint8_t *base;
  uint32_t index; /* of the next buffer: in a packed ring a place, and `turn` says whose descriptors are new */
  uint32_t turn;
};

static uint8_t *base;
static uint32_t sequence;
static uint64_t sent;

/* Receives a frame, or takes one; the bytes that were written. */
static uint32_t serve(uint64_t address, int receives) {
  if (!receives) {
    sent += address; /* a device reads the packet; its memory would be the other core's for two lines */
    return 0;
  }
  volatile uint32_t *buffer = (volatile uint32_t *)(base + address % SHARED_SIZE);
  buffer[0] = 0;
  buffer[1] = 0;
  buffer[2] = 1u << 16;
  buffer[3] = sequence++;
  return HEADER + FRAME_BYTES;
}

static void split(struct queue *queue, int receives) {
  volatile uint64_t *descriptors = (volatile uint64_t *)queue->base;
  volatile uint16_t *avail = (volatile uint16_t *)(queue->base + AVAIL_AREA);
  volatile uint16_t *used = (volatile uint16_t *)(queue->base + USED_AREA);
  volatile uint32_t *ring = (volatile uint32_t *)(queue->base + USED_AREA + 4);
  uint16_t end = avail[1];
  for (; (uint16_t)queue->index != end; queue->index++) {
    uint32_t id = avail[2 + queue->index % ENTRIES];
    uint32_t written = serve(descriptors[id * 2], receives);
    ring[queue->index % ENTRIES * 2] = id;
    ring[queue->index % ENTRIES * 2 + 1] = written;
  }
  used[1] = end;
}

static void packed(struct queue *queue, int receives) {
  volatile uint64_t *descriptors = (volatile uint64_t *)queue->base;
  for (;;) {
    uint64_t rest = descriptors[queue->index * 2 + 1];
    uint32_t last = rest >> 32;
    if ((last & (AVAIL | USED)) != queue->turn) return;
    uint32_t written = serve(descriptors[queue->index * 2], receives);
    uint32_t back = queue->turn == AVAIL ? AVAIL | USED : 0;
    descriptors[queue->index * 2 + 1] = written | (uint64_t)(back | (last & 0xffff)) << 32;
    if (++queue->index == ENTRIES) {
      queue->index = 0;
      queue->turn ^= AVAIL | USED;
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: virtio-device FILE split|packed\n");
    return 2;
  }
  base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  int is_packed = strcmp(argv[2], "packed") == 0;
  struct queue receive = {base + RECEIVE_OFFSET, 0, AVAIL}, transmit = {base + TRANSMIT_OFFSET, 0, AVAIL};
  for (int i = 0; i < 2; i++) {
    uint8_t *ring = i == 0 ? receive.base : transmit.base;
    if (is_packed) *(volatile uint32_t *)(ring + DEVICE_EVENT) = EVENT_DISABLE;
    else *(volatile uint16_t *)(ring + USED_AREA) = 1;
  }
  volatile uint32_t *asked = (volatile uint32_t *)(base + ASKED_OFFSET), *done = (volatile uint32_t *)(base + DONE_OFFSET);
  volatile uint32_t *stop = (volatile uint32_t *)(base + STOP_OFFSET);
  puts("ready");
  fflush(stdout);
  while (!*stop) {
    uint32_t turn = *asked;
    if (turn == *done) {
      __builtin_ia32_pause();
      continue;
    }
    (is_packed ? packed : split)(&receive, 1);
    (is_packed ? packed : split)(&transmit, 0);
    *done = turn;
  }
  return sent == 1;
}
