/* The peer: receive a burst, touch a byte of each packet, send the burst over virtqueues, in C at -O2: the loops that ring3's are
 * held to. The same checks, tables, pool and publications. Prints nanoseconds a packet. */
#include "../peer.h"
#include "virtio-layout.h"
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

struct packet {
  uint32_t place, length, flags, offload;
};

/* What changes with every buffer: a copy of it is in registers during a burst. */
struct words {
  uint32_t free, next, taken, seen, turn, fresh, first_at, first_word;
};

struct ring {
  struct words words;
  uint8_t *memory;
  uint32_t limit, broken;
  uint32_t tokens[ENTRIES], identifiers[ENTRIES];
};

static struct ring receive, transmit;
static uint32_t stack[BUFFERS], unused, skip;
static uint8_t *pool;
static volatile uint16_t *notify;
static uint64_t received, received_bytes, sent, sent_bytes, errors, no_buffer;
static int mergeable, event_index;

INLINE int take(int packed, int writes, struct ring *ring, struct words *w, uint32_t *length) {
  uint32_t id;
  if (packed) {
    if (w->free == ENTRIES) return -1;
    uint64_t rest = ((volatile uint64_t *)ring->memory)[w->taken * 2 + 1];
    id = rest >> 32;
    if ((id & (AVAIL | USED)) != w->seen) return -1;
    id &= 0xffff;
    *length = writes ? (uint32_t)rest : 0;
  } else {
    volatile uint16_t *used = (volatile uint16_t *)(ring->memory + USED_AREA);
    if (w->taken == w->seen) {
      uint32_t seen = used[1], count = (seen - w->taken) & 0xffff;
      if (count > ENTRIES - w->free) {
        ring->broken = 1;
        return -1;
      }
      w->seen = seen;
      if (count == 0) return -1;
    }
    volatile uint32_t *entry = (volatile uint32_t *)(ring->memory + USED_AREA + 4) + w->taken % ENTRIES * 2;
    id = entry[0];
    *length = writes ? entry[1] : 0;
  }
  int token = id < ENTRIES ? (int)ring->tokens[id] : -1;
  if (token < 0 || *length > ring->limit) {
    ring->broken = 1;
    return -1;
  }
  ring->tokens[id] = -1;
  ring->identifiers[w->free++] = id;
  if (!packed) w->taken = (w->taken + 1) & 0xffff;
  else if (++w->taken == ENTRIES) {
    w->taken = 0;
    w->seen ^= AVAIL | USED;
  }
  return token;
}

INLINE void put(int packed, int writes, struct ring *ring, struct words *w, uint64_t address, uint32_t length, uint32_t token) {
  uint32_t id = ring->identifiers[--w->free];
  volatile uint64_t *descriptors = (volatile uint64_t *)ring->memory;
  ring->tokens[id] = token;
  if (packed) {
    uint32_t last = id | w->turn | (writes ? WRITE << 16 : 0);
    descriptors[w->next * 2] = address;
    if (w->fresh) descriptors[w->next * 2 + 1] = length | (uint64_t)last << 32;
    else {
      ((volatile uint32_t *)ring->memory)[w->next * 4 + 2] = length;
      w->first_at = w->next * 4 + 3;
      w->first_word = last;
    }
    if (++w->next == ENTRIES) {
      w->next = 0;
      w->turn ^= AVAIL | USED;
    }
  } else {
    descriptors[id * 2] = address;
    descriptors[id * 2 + 1] = length | (uint64_t)(writes ? WRITE : 0) << 32;
    ((volatile uint16_t *)(ring->memory + AVAIL_AREA))[2 + w->next % ENTRIES] = id;
    w->next = (w->next + 1) & 0xffff;
  }
  w->fresh++;
}

INLINE int passed(uint32_t event, struct words *w) {
  return ((w->next - event - 1) & 0xffff) < (w->fresh & 0xffff);
}

INLINE void publish(int packed, struct ring *ring, struct words *w, uint32_t queue) {
  if (w->fresh == 0) return;
  int wanted;
  if (packed) {
    __atomic_store_n((uint32_t *)ring->memory + w->first_at, w->first_word, __ATOMIC_SEQ_CST);
    uint32_t event = *(volatile uint32_t *)(ring->memory + DEVICE_EVENT), flags = event >> 16 & 3;
    if (flags == 2 && event_index) {
      int same = (event >> 15 & 1) == (w->turn == AVAIL);
      wanted = passed((event & 0x7fff) - (same ? 0 : ENTRIES), w);
    } else wanted = flags != 1;
  } else {
    __atomic_store_n((uint16_t *)(ring->memory + AVAIL_AREA) + 1, (uint16_t)w->next, __ATOMIC_SEQ_CST);
    volatile uint16_t *used = (volatile uint16_t *)(ring->memory + USED_AREA);
    wanted = event_index ? passed(used[2 + 4 * ENTRIES], w) : !(used[0] & 1);
  }
  if (wanted) *notify = queue;
  w->fresh = 0;
}

INLINE uint32_t receive_burst(int packed, struct packet *packets, uint32_t max) {
  struct words w = receive.words;
  uint32_t taken = 0, length, left = unused;
  uint64_t bytes = 0;
  while (!receive.broken && taken < max) {
    int place = take(packed, 1, &receive, &w, &length);
    if (place < 0) break;
    length -= HEADER;
    volatile uint8_t *header = pool + place - HEADER;
    uint32_t buffers = mergeable ? *(volatile uint16_t *)(header + 10) : 1;
    if (skip || buffers != 1 || (int32_t)length < 14) {
      stack[left++] = place & -BUFFER_BYTES;
      if (skip) skip--;
      else {
        errors++;
        skip = buffers > 1 && buffers <= ENTRIES ? buffers - 1 : 0;
      }
      continue;
    }
    uint32_t flags = *header;
    packets[taken].place = place;
    packets[taken].length = length;
    packets[taken].flags = (flags & 1) * 0x420 | (flags & 2) << 4;
    packets[taken].offload = 0;
    bytes += length;
    taken++;
  }
  while (w.free > 0) {
    if (left == 0) {
      no_buffer++;
      break;
    }
    uint32_t place = stack[--left] + HEADROOM;
    put(packed, 1, &receive, &w, POOL_OFFSET + (uint64_t)place - HEADER, receive.limit, place);
  }
  publish(packed, &receive, &w, 0);
  receive.words = w;
  unused = left;
  received += taken;
  received_bytes += bytes;
  return taken;
}

INLINE uint32_t transmit_burst(int packed, struct packet *packets, uint32_t count) {
  struct words w = transmit.words;
  uint32_t taken = 0, refused = 0;
  uint64_t bytes = 0;
  if (w.free < count && !transmit.broken) {
    uint32_t left = unused, length;
    while (w.free != ENTRIES) {
      int place = take(packed, 0, &transmit, &w, &length);
      if (place < 0) break;
      stack[left++] = place & -BUFFER_BYTES;
    }
    unused = left;
  }
  for (; taken < count && w.free > 0; taken++) {
    uint32_t place = packets[taken].place, size = packets[taken].length, offset = place & (BUFFER_BYTES - 1);
    if (place >= BUFFERS * BUFFER_BYTES || size - 14 > MAXIMUM_FRAME - 14 || offset < HEADER || offset + size > BUFFER_BYTES ||
        (packets[taken].flags & 0x7008)) {
      errors++;
      refused++;
      continue;
    }
    memset(pool + place - HEADER, 0, HEADER);
    put(packed, 0, &transmit, &w, POOL_OFFSET + (uint64_t)place - HEADER, size + HEADER, place);
    bytes += size;
  }
  publish(packed, &transmit, &w, 1);
  transmit.words = w;
  sent += taken - refused;
  sent_bytes += bytes;
  return taken;
}

/* One burst of each kind, compiled as a function of its own. */
static __attribute__((noinline)) uint32_t receive_split(struct packet *packets, uint32_t max) { return receive_burst(0, packets, max); }
static __attribute__((noinline)) uint32_t receive_packed(struct packet *packets, uint32_t max) { return receive_burst(1, packets, max); }
static __attribute__((noinline)) uint32_t transmit_split(struct packet *packets, uint32_t count) { return transmit_burst(0, packets, count); }
static __attribute__((noinline)) uint32_t transmit_packed(struct packet *packets, uint32_t count) { return transmit_burst(1, packets, count); }

static void start(int packed, struct ring *ring, uint8_t *memory, uint32_t limit) {
  ring->memory = memory;
  ring->limit = limit;
  ring->words = (struct words){.free = ENTRIES, .turn = AVAIL, .seen = packed ? AVAIL | USED : 0};
  for (uint32_t i = 0; i < ENTRIES; i++) {
    ring->tokens[i] = -1;
    ring->identifiers[i] = ENTRIES - 1 - i;
  }
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fprintf(stderr, "usage: virtio-driver FILE BATCH PACKETS split|packed\n");
    return 2;
  }
  uint8_t *base = map_shared(argv[1], SHARED_SIZE);
  if (base == NULL) return 1;
  uint32_t batch = strtoul(argv[2], NULL, 10), packets = strtoul(argv[3], NULL, 10);
  int packed = strcmp(argv[4], "packed") == 0;
  pool = base + POOL_OFFSET;
  notify = (volatile uint16_t *)(base + NOTIFY_OFFSET);
  /* Known at run time only, as ring3's words are. */
  mergeable = argc > 1;
  event_index = argc > 5;
  for (; unused < BUFFERS; unused++) stack[unused] = (BUFFERS - 1 - unused) * BUFFER_BYTES;
  start(packed, &receive, base + RECEIVE_OFFSET, HEADER + MAXIMUM_FRAME);
  start(packed, &transmit, base + TRANSMIT_OFFSET, 0);
  uint32_t (*take_burst)(struct packet *, uint32_t) = packed ? receive_packed : receive_split;
  uint32_t (*send_burst)(struct packet *, uint32_t) = packed ? transmit_packed : transmit_split;
  static struct packet burst[256];
  if (take_burst(burst, 1) != 0) return 5;
  volatile uint32_t *asked = (volatile uint32_t *)(base + ASKED_OFFSET), *done = (volatile uint32_t *)(base + DONE_OFFSET);
  uint32_t turns = packets / ENTRIES + 1, bursts = ENTRIES / batch;
  double spent = 0;
  for (uint32_t turn = 0; turn < 2 * turns; turn++) {
    *asked = turn + 1;
    while (*done != turn + 1) __builtin_ia32_pause();
    double start = now_ns();
    for (uint32_t i = 0; i < bursts; i++) {
      uint32_t count = take_burst(burst, batch);
      if (count != batch) return 3;
      for (uint32_t j = 0; j < count; j++) pool[burst[j].place]++;
      if (send_burst(burst, count) != count) return 4;
    }
    if (turn >= turns) spent += now_ns() - start;
  }
  printf("%.3f\n", spent / turns / (bursts * batch));
  return errors != 0;
}
