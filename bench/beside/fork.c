// The C program that guest/fork is compared with: the same arguments and lines.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void fail(const char *what) {
  perror(what);
  _exit(1);
}

static pid_t make(void) {
  pid_t pid = fork();
  if (pid < 0) fail("fork");
  return pid;
}

static int listener(int *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || bind(s, (void *)&a, n) || listen(s, 16) || getsockname(s, (void *)&a, &n)) fail("listen");
  *port = ntohs(a.sin_port);
  return s;
}

static void serve(int l) {
  static const char text[] =
      "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nHello, world\n";
  char b[4096];
  size_t n = 0;
  int c = accept(l, 0, 0);
  if (c < 0) fail("accept");
  do {
    ssize_t k = read(c, b + n, sizeof b - 1 - n);
    if (k <= 0) fail("read");
    b[n += k] = 0;
  } while (!strstr(b, "\r\n\r\n"));
  if (write(c, text, sizeof text - 1) != sizeof text - 1) fail("write");
  close(c);
}

static int answer(void) {
  int port, orders_port, l = listener(&port), orders = listener(&orders_port);
  printf("listening 127.0.0.1:%d 127.0.0.1:%d\n", port, orders_port);
  fflush(stdout);
  int c = accept(orders, 0, 0);
  for (char b; read(c, &b, 1) == 1;) {
    if (make() == 0) {
      serve(l);
      _exit(0);
    }
    wait(0);
    if (write(c, &b, 1) != 1) fail("write");
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  int n = argc > 2 ? atoi(argv[2]) : 0;
  char *heap = malloc(10 << 20);
  if (!heap) return 1;
  memset(heap, 1, 10 << 20);
  if (!strcmp(argv[1], "first")) {
    for (int i = 0; i < n; i++) {
      long t = now();
      if (make() == 0) {
        printf("fork to the child's first instruction, 10 MB: %ld\n", now() - t);
        fflush(stdout);
        _exit(0);
      }
      wait(0);
    }
  } else if (!strcmp(argv[1], "rows")) {
    long t = now();
    for (int i = 0; i < n; i++) {
      if (make() == 0) _exit(0);
      wait(0);
    }
    printf("fork, exit and wait, %d in a row, 10 MB: %ld\n", n, (now() - t) / n);
  } else if (!strcmp(argv[1], "answer")) {
    return answer();
  } else if (!strcmp(argv[1], "idle")) {
    if (make() == 0) {
      puts("idle");
      fflush(stdout);
    }
    for (;;) pause();
  } else {
    return 2;
  }
  return 0;
}
