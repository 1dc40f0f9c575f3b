// The C program that fork is compared with: the same measurements as guest/fork.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void futex(_Atomic int *f, int op, int v) { syscall(SYS_futex, f, op, v, 0, 0, 0); }

int main(int argc, char **argv) {
  int n = atoi(argv[1]), trips = 20 * n;
  char x = 0, *heap = malloc(10 << 20);
  memset(heap, 1, 10 << 20);
  for (int i = 0; i < n; i++) {
    long t = now();
    if (fork() == 0) {
      printf("fork to the child's first instruction, 10 MB: %ld\n", now() - t);
      fflush(stdout);
      _exit(0);
    }
    wait(0);
  }
  int types[] = {SOCK_STREAM, SOCK_SEQPACKET};
  const char *names[] = {"round trip, stream", "round trip, messages"};
  for (int k = 0; k < 2; k++) {
    int s[2];
    socketpair(AF_UNIX, types[k], 0, s);
    if (fork() == 0) {
      for (int i = 0; i < trips; i++)
        if (read(s[1], &x, 1) != 1 || write(s[1], &x, 1) != 1) _exit(1);
      _exit(0);
    }
    long t = now();
    for (int i = 0; i < trips; i++)
      if (write(s[0], &x, 1) != 1 || read(s[0], &x, 1) != 1) return 1;
    printf("%s: %ld\n", names[k], (now() - t) / trips);
    wait(0);
  }
  _Atomic int *f = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  fflush(stdout);
  if (fork() == 0) {
    for (int i = 0; i < trips; i++) {
      while (*f == 0) futex(f, FUTEX_WAIT, 0);
      *f = 0;
      futex(f, FUTEX_WAKE, 1);
    }
    _exit(0);
  }
  long t = now();
  for (int i = 0; i < trips; i++) {
    *f = 1;
    futex(f, FUTEX_WAKE, 1);
    while (*f == 1) futex(f, FUTEX_WAIT, 1);
  }
  printf("round trip, shared memory: %ld\n", (now() - t) / trips);
  wait(0);
  return 0;
}
