/* Clients of an echo server, each with one message on its way.
 *
 *   load PORT CLIENTS SIZE
 *
 * Connects them, all at once, and has each send a message of SIZE bytes: when all have come back it prints the seconds
 * since the first connect. Then each line of stdin is a number of messages: it sends so many, and prints the seconds
 * until the last of them has come back. The end of stdin ends it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, LARGEST = 16 << 10 };

static int poller, size, count;
static int *fds, *awaited; /* the sockets, and by descriptor how many bytes have yet to come back */
static char message[LARGEST];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void send_message(int fd)
{
    awaited[fd] = size;
    if (write(fd, message, size) != size)
        fail("write");
}

static void dial(struct sockaddr_in *address, int place)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
    if (fd < 0)
        fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS)
        fail("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
    fds[place] = fd;
}

static void connection_made(int fd)
{
    int error;
    socklen_t length = sizeof error;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if ((errno = error))
        fail("connect");
    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
    send_message(fd);
}

/* Whether a whole message has come back. */
static int came_back(int fd)
{
    char buffer[LARGEST];
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("read");
    return (awaited[fd] -= got) == 0;
}

/* Wait until so many messages have come back; of those who have, the first `more` send another. */
static void exchange(long waiting, long more)
{
    while (waiting > 0) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (events[i].events & EPOLLOUT) {
                connection_made(fd);
            } else if (came_back(fd)) {
                waiting--;
                if (more > 0) {
                    more--;
                    send_message(fd);
                }
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    struct rlimit limit;
    char line[32];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    count = atoi(argv[2]);
    size = atoi(argv[3]);
    if (size < 1 || size > LARGEST)
        return 2;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    memset(message, 'x', sizeof message);
    fds = calloc(count, sizeof *fds);
    awaited = calloc(limit.rlim_max, sizeof *awaited);
    poller = epoll_create1(0);
    setlinebuf(stdout);
    double since = now();
    for (int place = 0; place < count; place++)
        dial(&address, place);
    exchange(count, 0);
    printf("%f\n", now() - since);
    while (fgets(line, sizeof line, stdin)) {
        long messages = atol(line), first = messages < count ? messages : count;
        since = now();
        for (int place = 0; place < first; place++)
            send_message(fds[place]);
        exchange(messages, messages - first);
        printf("%f\n", now() - since);
    }
    return 0;
}
