/* The peer on the wire. "echo" answers vfio-user reads with bytes of its own, by one recvmsg for whatever came and one send
 * for each reply: no server can be faster. The other words are a client that blocks, as QEMU does; each prints one line of figures. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, DMA_MAP = 2, DMA_UNMAP = 3, REGION_READ = 9, REGION_WRITE = 10 };
enum { REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

struct header { uint16_t id, command; uint32_t size, flags, error; };
struct access { struct header header; uint64_t offset; uint32_t region, count; };
struct map { struct header header; uint32_t argsz, flags; uint64_t file_offset, address, size; };
struct unmap { struct header header; uint32_t argsz, flags; uint64_t address, size; };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static struct sockaddr_un address_of(const char *path) {
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  if (strlen(path) >= sizeof address.sun_path) { fprintf(stderr, "path too long\n"); exit(2); }
  strcpy(address.sun_path, path);
  return address;
}

static int echo(const char *path) {
  struct sockaddr_un address = address_of(path);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 1)) fail(path);
  puts("ready");
  fflush(stdout);
  int fd = accept(listener, NULL, NULL);
  static uint8_t in[1 << 16], out[(1 << 20) + 32];
  char control[256];
  for (size_t held = 0;;) {
    struct iovec part = { in + held, sizeof in - held };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    ssize_t size = recvmsg(fd, &message, 0);
    if (size <= 0) return 0;
    held += size;
    size_t at = 0;
    for (struct header request; held - at >= sizeof request; at += request.size) {
      memcpy(&request, in + at, sizeof request);
      if (request.size < sizeof request || request.size > sizeof in) return 1;
      if (held - at < request.size) break;
      if (request.flags & NO_REPLY) continue;
      struct access *reply = (void *)out;
      memcpy(out, in + at, request.size < 32 ? request.size : 32);
      reply->header.flags = REPLY;
      if (request.command == REGION_READ) reply->header.size = 32 + reply->count;
      if (reply->header.size > sizeof out) return 1;
      for (size_t sent = 0; sent < reply->header.size;) {
        ssize_t part = send(fd, out + sent, reply->header.size - sent, MSG_NOSIGNAL);
        if (part < 0) return 0;
        sent += part;
      }
    }
    memmove(in, in + at, held - at);
    held -= at;
  }
}

static int connected(const char *path) {
  struct sockaddr_un address = address_of(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (void *)&address, sizeof address)) fail(path);
  struct { struct header header; uint16_t major, minor; } version = { { 0, VERSION, 20, 0, 0 }, 0, 0 };
  if (send(fd, &version, sizeof version, 0) != sizeof version) fail("send");
  uint8_t reply[4096];
  if (recv(fd, reply, sizeof reply, 0) < 20 || (((struct header *)reply)->flags & ERROR)) fail("version");
  return fd;
}

/* Reads exactly one message. */
static void receive(int fd, uint8_t *into, uint32_t expected) {
  for (uint32_t at = 0; at < expected;) {
    ssize_t size = recv(fd, into + at, expected - at, 0);
    if (size <= 0) fail("recv");
    at += size;
    if (at >= 16 && (((struct header *)into)->flags & ERROR)) {
      fprintf(stderr, "error reply %u to command %u\n", ((struct header *)into)->error, ((struct header *)into)->command);
      exit(1);
    }
  }
}

/* p50 and p99 of `count` blocking reads of 4 bytes of config space, in microseconds. */
static int reads(int fd, int count) {
  double *times = malloc(count * sizeof *times);
  uint8_t reply[64];
  for (int i = -count / 10; i < count; i++) {
    struct access request = { { (uint16_t)i, REGION_READ, 32, 0, 0 }, 0, 7, 4 };
    double start = now_us();
    if (send(fd, &request, sizeof request, 0) != sizeof request) fail("send");
    receive(fd, reply, 36);
    if (i >= 0) times[i] = now_us() - start;
  }
  qsort(times, count, sizeof *times, by_size);
  printf("%f %f\n", times[count / 2], times[(int)(count * 0.99)]);
  return 0;
}

/* Posted 4-byte writes a second; a read at the end waits for the last of them. */
static int writes(int fd, int region, int count) {
  struct { struct access access; uint32_t value; } __attribute__((packed)) write = {
    { { 1, REGION_WRITE, 36, NO_REPLY, 0 }, 0, region, 4 }, 0 };
  uint8_t reply[64];
  double start = now_us();
  for (int i = 0; i < count; i++) {
    write.value = i;
    if (send(fd, &write, 36, 0) != 36) fail("send");
  }
  struct access read = { { 2, REGION_READ, 32, 0, 0 }, 0, 7, 4 };
  if (send(fd, &read, sizeof read, 0) != sizeof read) fail("send");
  receive(fd, reply, 36);
  printf("%f\n", count / ((now_us() - start) / 1e6));
  return 0;
}

/* Bytes a second of 1 MiB reads of a region. */
static int bulk(int fd, int region, int count) {
  const uint32_t bytes = 1 << 20;
  uint8_t *reply = malloc(32 + bytes);
  double start = now_us();
  for (int i = 0; i < count; i++) {
    struct access request = { { (uint16_t)i, REGION_READ, 32, 0, 0 }, 0, region, bytes };
    if (send(fd, &request, sizeof request, 0) != sizeof request) fail("send");
    receive(fd, reply, 32 + bytes);
  }
  printf("%f\n", count * (double)bytes / ((now_us() - start) / 1e6));
  return 0;
}

/* Maps `count` pages of one file one by one, no two adjacent, in a scattered order, and unmaps them again: microseconds
 * for each of the first and the last 1000 maps, and for each unmap. */
static int maps(int fd, int count) {
  int file = memfd_create("maps", MFD_ALLOW_SEALING);
  if (file < 0 || ftruncate(file, count * 4096ul)) fail("memfd");
  uint8_t reply[64];
  double first = 0, last = 0;
  for (int i = 0; i < count; i++) {
    /* 40503 is odd and 65536 a power of two: every index comes once. */
    uint64_t place = (uint64_t)i * 40503 % 65536;
    struct map request = { { (uint16_t)i, DMA_MAP, sizeof request, 0, 0 }, 32, 3, i * 4096ul, place * 8192, 4096 };
    struct iovec part = { &request, sizeof request };
    char control[CMSG_SPACE(sizeof file)] = { 0 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof file);
    memcpy(CMSG_DATA(rights), &file, sizeof file);
    double start = now_us();
    if (sendmsg(fd, &message, 0) != sizeof request) fail("sendmsg");
    receive(fd, reply, 16);
    double took = now_us() - start;
    if (i < 1000) first += took;
    if (i >= count - 1000) last += took;
  }
  double start = now_us();
  for (int i = 0; i < count; i++) {
    uint64_t place = (uint64_t)i * 40503 % 65536;
    struct unmap request = { { (uint16_t)i, DMA_UNMAP, sizeof request, 0, 0 }, 24, 0, place * 8192, 4096 };
    if (send(fd, &request, sizeof request, 0) != sizeof request) fail("send");
    receive(fd, reply, 40);
  }
  printf("%f %f %f\n", first / (count < 1000 ? count : 1000), last / (count < 1000 ? count : 1000), (now_us() - start) / count);
  return 0;
}

int main(int argc, char **argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char *mode = argc > 2 ? argv[1] : "";
  if (!strcmp(mode, "echo")) return echo(argv[2]);
  int number = argc > 3 ? atoi(argv[3]) : 0, region = argc > 4 ? atoi(argv[4]) : 0;
  if (number > 0 && !strcmp(mode, "reads")) return reads(connected(argv[2]), number);
  if (number > 0 && !strcmp(mode, "writes")) return writes(connected(argv[2]), region, number);
  if (number > 0 && !strcmp(mode, "bulk")) return bulk(connected(argv[2]), region, number);
  if (number > 0 && !strcmp(mode, "maps")) return maps(connected(argv[2]), number);
  fprintf(stderr, "usage: wire echo PATH | wire reads|writes|bulk|maps PATH COUNT [REGION]\n");
  return 2;
}
