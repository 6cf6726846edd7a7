/* What peers in C do alike: they map the memory that they share with another process, and take the time. */
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

/* Maps `size` bytes of the file, for as long as whoever started this program lives; NULL, and words on stderr, where that fails. */
static inline uint8_t *map_shared(const char *path, size_t size) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int fd = open(path, O_RDWR);
  uint8_t *base = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base != MAP_FAILED) return base;
  perror(path);
  return NULL;
}

static inline double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}
