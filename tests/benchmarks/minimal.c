/* What a program of a few lines does with the same system calls: the limit that the others are measured against.
 *
 *   minimal echo PORT             send back what comes, for any number of clients
 *   minimal send PORT             stdin, a file or a pipe, to one server: sendfile or splice
 *   minimal receive PORT          one client to stdout, which is a pipe or /dev/null: splice
 *   minimal relay PORT TARGET     one client, joined to a server both ways: splice
 *
 * Everything is on 127.0.0.1. Whatever fails ends it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, MESSAGE = 16 << 10, EVENTS = 256, BACKLOG = 4096 };

static long check(long result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static struct sockaddr_in here(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int listening(const char *port, int flags)
{
    struct sockaddr_in address = here(port);
    int one = 1, fd = check(socket(AF_INET, SOCK_STREAM | flags, 0), "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    check(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
    check(listen(fd, BACKLOG), "listen");
    return fd;
}

static int connected(const char *port)
{
    struct sockaddr_in address = here(port);
    int fd = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
    check(connect(fd, (struct sockaddr *)&address, sizeof address), "connect");
    return fd;
}

static void watch(int poller, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void accept_all(int poller, int listener)
{
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(poller, fd);
    }
}

static void send_back(int fd)
{
    static char buffer[MESSAGE];
    ssize_t size = read(fd, buffer, sizeof buffer);
    if (size > 0) { /* a message is small, and has room in the socket's buffer */
        if (write(fd, buffer, size) != size)
            close(fd);
    } else if (size == 0 || errno != EAGAIN) {
        close(fd);
    }
}

static void echo(const char *port)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listening(port, SOCK_NONBLOCK), poller = check(epoll_create1(0), "epoll_create");
    watch(poller, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(poller, listener);
            else
                send_back(events[i].data.fd);
        }
    }
}

static void enlarged_pipe(int ends[2])
{
    check(pipe(ends), "pipe");
    fcntl(ends[1], F_SETPIPE_SZ, CHUNK);
}

static int is_pipe(int fd)
{
    struct stat status;
    check(fstat(fd, &status), "fstat");
    return S_ISFIFO(status.st_mode);
}

/* All that source has to sink, by a pipe between them unless one of them is one. */
static void splice_all(int source, int sink)
{
    int ends[2], direct = is_pipe(source) || is_pipe(sink);
    if (direct)
        fcntl(is_pipe(source) ? source : sink, F_SETPIPE_SZ, CHUNK);
    else
        enlarged_pipe(ends);
    ssize_t moved;
    while ((moved = splice(source, NULL, direct ? sink : ends[1], NULL, CHUNK, SPLICE_F_MOVE)) > 0)
        for (ssize_t rest = direct ? 0 : moved; rest > 0;)
            rest -= check(splice(ends[0], NULL, sink, NULL, rest, SPLICE_F_MOVE), "splice");
    check(moved, "splice");
}

static void send_stdin(const char *port)
{
    int fd = connected(port);
    char end;
    if (is_pipe(0))
        splice_all(0, fd);
    else
        while (check(sendfile(fd, 0, NULL, 1 << 30), "sendfile") > 0)
            ;
    shutdown(fd, SHUT_WR);
    while (read(fd, &end, 1) > 0)
        ;
}

static void receive(const char *port)
{
    splice_all(check(accept(listening(port, 0), NULL, NULL), "accept"), 1);
}

/* One way of a relay: what could be read goes into the pipe, and from there on. Zero at the end. */
static int pass(int source, int sink, int ends[2])
{
    ssize_t moved = splice(source, NULL, ends[1], NULL, CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (moved < 0 && errno == EAGAIN)
        return 1;
    for (ssize_t rest = check(moved, "splice"); rest > 0;)
        rest -= check(splice(ends[0], NULL, sink, NULL, rest, SPLICE_F_MOVE), "splice");
    if (moved == 0)
        shutdown(sink, SHUT_WR);
    return moved > 0;
}

static void relay(const char *port, const char *target)
{
    int ends[2], client = check(accept(listening(port, 0), NULL, NULL), "accept"), server = connected(target);
    struct pollfd ready[2] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
    enlarged_pipe(ends);
    while (ready[0].fd >= 0 || ready[1].fd >= 0) {
        check(poll(ready, 2, -1), "poll");
        if (ready[0].revents && !pass(client, server, ends))
            ready[0].fd = -1;
        if (ready[1].revents && !pass(server, client, ends))
            ready[1].fd = -1;
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    if (!strcmp(what, "echo"))
        echo(argv[2]);
    else if (!strcmp(what, "send"))
        send_stdin(argv[2]);
    else if (!strcmp(what, "receive"))
        receive(argv[2]);
    else if (!strcmp(what, "relay") && argc > 3)
        relay(argv[2], argv[3]);
    else
        return 2;
    return 0;
}
