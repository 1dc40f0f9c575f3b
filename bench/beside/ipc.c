// The C program that guest/ipc is compared with: two processes that say the same to
// each other, ipc N [MS]. Before each kind it waits MS milliseconds, in which somebody can
// place the two on processors.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
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

enum { BULK = 1 << 20, CHUNK = 64 << 10, BURST = 100, MESSAGE = 1 << 10, WARM_UP = 20 };

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  _exit(1);
}

static int stream[2], messages[2], mine; // mine: which end
static _Atomic int *word;
static pid_t peer;
static sigset_t usr1;
static char buf[CHUNK];

static void put(int *s, size_t n) {
  if (write(s[mine], buf, n) != (ssize_t)n) fail("write");
}

static void get(int *s, size_t n) {
  while (n > 0) {
    ssize_t k = read(s[mine], buf, n);
    if (k <= 0) fail("read");
    n -= k;
  }
}

static void one(void) { // a message, whatever its size
  if (read(messages[mine], buf, sizeof buf) <= 0) fail("read");
}

static void set(int v) {
  *word = v;
  syscall(SYS_futex, word, FUTEX_WAKE, 1, 0, 0, 0);
}

static void wait_not(int old) {
  while (*word == old) syscall(SYS_futex, word, FUTEX_WAIT, old, 0, 0, 0);
}

static void hear(void) {
  int sig;
  if (sigwait(&usr1, &sig)) fail("sigwait");
}

static void stream_parent(void) { put(stream, 1), get(stream, 1); }
static void stream_child(void) { get(stream, 1), put(stream, 1); }
static void messages_parent(void) { put(messages, 1), one(); }
static void messages_child(void) { one(), put(messages, 1); }
static void memory_parent(void) { set(1), wait_not(1); }
static void memory_child(void) { wait_not(0), set(0); }
static void signals_parent(void) { kill(peer, SIGUSR1), hear(); }
static void signals_child(void) { hear(), kill(peer, SIGUSR1); }
static void bulk_parent(void) {
  for (int i = 0; i < BULK / CHUNK; i++) put(stream, CHUNK);
  get(stream, 1);
}
static void bulk_child(void) {
  for (ssize_t n = BULK, k; n > 0; n -= k)
    if ((k = read(stream[mine], buf, n < CHUNK ? n : CHUNK)) <= 0) fail("read");
  put(stream, 1);
}
static void burst_parent(void) {
  for (int i = 0; i < BURST; i++) put(messages, MESSAGE);
  one();
}
static void burst_child(void) {
  for (int i = 0; i < BURST; i++) one();
  put(messages, 1);
}

static struct {
  const char *name;
  void (*parent)(void), (*child)(void);
} kinds[] = {
    {"round trip, stream", stream_parent, stream_child},
    {"round trip, messages", messages_parent, messages_child},
    {"round trip, shared memory", memory_parent, memory_child},
    {"round trip, signals", signals_parent, signals_child},
    {"1 MB through a stream", bulk_parent, bulk_child},
    {"100 messages of 1 KiB, one way", burst_parent, burst_child},
};

int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 0, settle = argc > 2 ? atoi(argv[2]) : 0;
  long *times = calloc(n + 1, sizeof *times);
  word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (n <= 0 || !times || word == MAP_FAILED) return 2;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, 0);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, stream) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, messages)) fail("socketpair");
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    pid_t parent = getpid();
    if ((peer = fork()) < 0) fail("fork");
    if (peer == 0) {
      peer = parent, mine = 1;
      for (int i = 0; i < n + WARM_UP; i++) kinds[k].child();
      _exit(0);
    }
    usleep(settle * 1000);
    for (int i = -WARM_UP; i < n; i++) {
      long t = now();
      kinds[k].parent();
      if (i >= 0) times[i] = now() - t;
    }
    int status;
    if (wait(&status) != peer || status) return 1;
    for (int i = 0; i < n; i++) printf("%s: %ld\n", kinds[k].name, times[i]);
    fflush(stdout);
  }
  return 0;
}
