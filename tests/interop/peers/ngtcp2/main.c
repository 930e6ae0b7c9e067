/* The loop: datagrams of one socket to connections, timers, and then what everyone wants to write. */
#include "peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define BURST 64                 /* datagrams that are read before anything is written */
#define RECEIVE_BUFFER (4 << 20) /* bytes */
#define FOREVER UINT64_MAX

socklen_t address_len(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

void local_address(int socket, struct sockaddr_storage *address, ngtcp2_addr *out)
{
    socklen_t len = sizeof *address;
    if (getsockname(socket, (struct sockaddr *)address, &len))
        fail(EX_INCOMPLETE, "getsockname: %s", strerror(errno));
    *out = (ngtcp2_addr){(struct sockaddr *)address, len};
}

uint16_t socket_port(int socket)
{
    struct sockaddr_storage local;
    ngtcp2_addr unused;
    local_address(socket, &local, &unused);
    return ntohs(((struct sockaddr_in *)&local)->sin_port); /* at the same place in both families */
}

int open_socket(const struct sockaddr_storage *address)
{
    int fd = socket(address->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), size = RECEIVE_BUFFER;
    if (fd < 0 || bind(fd, (const struct sockaddr *)address, address_len(address)))
        fail(EX_UNREACHABLE, "bind: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size); /* as much as the host allows */
    return fd;
}

struct loop {
    struct options options;
    struct sums sums;
    struct conn *conns; /* of a server: all; of a client: the current one */
    uint64_t accepted;
    int socket;
};

static struct conn *owner(struct loop *l, const uint8_t *data, size_t len)
{
    ngtcp2_version_cid v;
    if (!l->options.server)
        return l->conns;
    int code = ngtcp2_pkt_decode_version_cid(&v, data, len, CID_LEN);
    if (code && code != NGTCP2_ERR_VERSION_NEGOTIATION)
        return NULL;
    for (struct conn *c = l->conns; c; c = c->next)
        if (conn_owns(c, v.dcid, v.dcidlen))
            return c;
    return NULL;
}

static void receive(struct loop *l)
{
    static uint8_t data[65536];
    for (int i = 0; i < BURST; i++) {
        struct sockaddr_storage from, local;
        socklen_t from_len = sizeof from;
        ssize_t n = recvfrom(l->socket, data, sizeof data, 0, (struct sockaddr *)&from, &from_len);
        if (n < 0)
            return; /* nothing more; or an ICMP error of an earlier one, which the timers deal with */
        ngtcp2_path path = {.remote = {(struct sockaddr *)&from, from_len}};
        local_address(l->socket, &local, &path.local);
        struct conn *c = owner(l, data, (size_t)n);
        if (!c && l->options.server) {
            c = server_accept(&l->options, &l->sums, &l->socket, &path, data, (size_t)n, l->accepted);
            if (c) {
                l->accepted++;
                c->next = l->conns;
                l->conns = c;
            }
        }
        if (c)
            conn_read(c, &path, data, (size_t)n);
    }
}

static void serve(struct loop *l, ngtcp2_tstamp *wake)
{
    for (struct conn **at = &l->conns; *at;) {
        struct conn *c = *at;
        server_turn(c);
        conn_write(c);
        if (!conn_open_still(c)) {
            if (now() >= c->gone) {
                *at = c->next;
                conn_free(c);
                continue;
            }
            if (c->gone < *wake)
                *wake = c->gone;
        }
        at = &c->next;
    }
}

static int run(struct loop *l, int signals)
{
    for (;;) {
        ngtcp2_tstamp wake = FOREVER;
        if (l->options.server) {
            serve(l, &wake);
        } else {
            int code = client_turn(&l->options, &l->sums, &l->socket, &l->conns, &wake);
            if (code >= 0)
                return code;
            if (l->conns)
                conn_write(l->conns);
        }
        for (struct conn *c = l->conns; c; c = c->next) {
            ngtcp2_tstamp expiry = conn_open_still(c) ? ngtcp2_conn_get_expiry(c->quic) : c->gone;
            if (expiry < wake)
                wake = expiry;
        }
        struct pollfd fds[] = {{.fd = l->socket, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        ngtcp2_tstamp ts = now(), left = wake > ts ? wake - ts : 0;
        struct timespec timeout = {(time_t)(left / NGTCP2_SECONDS), (long)(left % NGTCP2_SECONDS)};
        int n = ppoll(fds, 2, wake == FOREVER ? NULL : &timeout, NULL);
        if (n < 0 && errno != EINTR)
            fail(EX_INCOMPLETE, "ppoll: %s", strerror(errno));
        if (fds[1].revents) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof info) != sizeof info || info.ssi_signo != SIGUSR2)
                break;
            client_go();
        }
        if (fds[0].revents)
            receive(l);
        for (struct conn *c = l->conns; c; c = c->next)
            conn_timer(c);
    }
    for (struct conn *c = l->conns; c; c = c->next)
        conn_close(c, 0, "stopped");
    return l->options.server ? 0 : EX_INCOMPLETE;
}

int main(int argc, char **argv)
{
    static struct loop loop;
    options_parse(&loop.options, argc, argv);
    const struct options *o = &loop.options;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC);
    tls_init(o);
    struct sockaddr_storage any = {.ss_family = o->address.ss_family};
    loop.socket = open_socket(o->server ? &o->address : o->bind.ss_family ? &o->bind : &any);
    if (o->server)
        say("ready", ", \"port\": %u", socket_port(loop.socket));
    int code = run(&loop, signals);
    say_summary(&loop.sums);
    return code;
}
