/* A driver's rings in C, the loops that ring3's are held to: the same checks, slots, pool and segments. */
#pragma once
#include "../peer.h"
#include "layout.h"
#include <stdlib.h>

struct packet {
  uint32_t place, length, flags, offload;
};

static volatile uint64_t *receive, *transmit;
static volatile uint32_t *receive_tail, *transmit_tail;
static uint32_t receive_slots[ENTRIES], transmit_slots[ENTRIES][2], stack[BUFFERS], unused;
static uint32_t receive_head, tail, clean;
static uint64_t received, received_bytes, sent, sent_bytes, errors;
static uint8_t *base;

static void arm(uint32_t slot, uint32_t place) {
  receive_slots[slot] = place;
  receive[slot * 2] = POOL_OFFSET + (uint64_t)place;
  receive[slot * 2 + 1] = 0;
}

static uint32_t receive_burst(struct packet *packets, uint32_t max) {
  uint32_t head = receive_head, taken = 0, dropped = 0;
  uint64_t bytes = 0;
  while (taken < max) {
    uint64_t word = receive[head * 2 + 1];
    uint32_t status = (uint32_t)word, length = (uint32_t)(word >> 32), size = length & 0xffff;
    if (!(status & DD)) break;
    if ((status & (EOP | 0x80000000u)) != EOP || size - 14 > BUFFER_BYTES - HEADROOM - 14) {
      errors++;
      if (dropped++ == ENTRIES) break;
      arm(head, receive_slots[head]);
    } else {
      if (unused == 0) break;
      packets[taken].place = receive_slots[head];
      packets[taken].length = size;
      packets[taken].flags = (status & 0x68) | (status >> 21 & 0x300);
      packets[taken].offload = length & 0xffff0000u;
      arm(head, stack[--unused] + HEADROOM);
      bytes += size;
      taken++;
    }
    if (++head == ENTRIES) head = 0;
  }
  if (taken + dropped) {
    receive_head = head;
    received += taken;
    received_bytes += bytes;
    *receive_tail = (head ? head : ENTRIES) - 1;
  }
  return taken;
}

static void clean_up(void) {
  while (clean != tail) {
    uint32_t last = transmit_slots[clean][1];
    if (!(transmit[last * 2 + 1] >> 32 & DD)) break;
    for (int done = 0; !done;) {
      done = clean == last;
      if ((int32_t)transmit_slots[clean][0] >= 0) stack[unused++] = transmit_slots[clean][0] & -BUFFER_BYTES;
      if (++clean == ENTRIES) clean = 0;
    }
  }
}

static void end_segment(uint32_t first, uint32_t last) {
  transmit_slots[first][1] = last;
  transmit[last * 2 + 1] |= RS;
}

static uint32_t transmit_burst(struct packet *packets, uint32_t count) {
  uint32_t room = clean - tail - 1 + (clean <= tail ? ENTRIES : 0), taken = 0, open = 0, last = 0;
  if (room <= count || room < ENTRIES / 2) {
    clean_up();
    room = clean - tail - 1 + (clean <= tail ? ENTRIES : 0);
  }
  uint32_t segment = tail, at = tail;
  uint64_t bytes = 0;
  for (; taken < count && room > 0; taken++) {
    uint32_t place = packets[taken].place, size = packets[taken].length;
    if (place >= BUFFERS * BUFFER_BYTES || size - 14 > 1518 - 14 || (place & (BUFFER_BYTES - 1)) + size > BUFFER_BYTES ||
        (packets[taken].flags & 0x7008)) {
      errors++;
      continue;
    }
    transmit[at * 2] = POOL_OFFSET + (uint64_t)place;
    transmit[at * 2 + 1] = DATA | size | (uint64_t)size << 46;
    transmit_slots[at][0] = place;
    last = at;
    if (++at == ENTRIES) at = 0;
    room--;
    bytes += size;
    if (++open == 32) {
      end_segment(segment, last);
      segment = at;
      open = 0;
    }
  }
  if (open) end_segment(segment, last);
  if (at != tail) {
    tail = at;
    sent += taken;
    sent_bytes += bytes;
    *transmit_tail = at;
  }
  return taken;
}

/* Maps the device's memory, and gives it a full receive ring. */
static int open_rings(const char *path) {
  base = map_shared(path, SHARED_SIZE);
  if (base == NULL) return 1;
  receive = (volatile uint64_t *)(base + RECEIVE_OFFSET);
  transmit = (volatile uint64_t *)(base + TRANSMIT_OFFSET);
  receive_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + RECEIVE_TAIL);
  transmit_tail = (volatile uint32_t *)(base + REGISTERS_OFFSET + TRANSMIT_TAIL);
  for (; unused < BUFFERS; unused++) stack[unused] = (BUFFERS - 1 - unused) * BUFFER_BYTES;
  for (uint32_t i = 0; i < ENTRIES; i++) arm(i, stack[--unused] + HEADROOM);
  *receive_tail = ENTRIES - 1;
  return 0;
}
