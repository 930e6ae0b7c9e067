/* Sending through UDP sockets while the kernel refuses in every way it can: each packet arrives once, or is counted as
 * dropped.
 *
 * Real sockets on the loopback; sendmmsg is wrapped, and a seeded generator decides when it fails, with what, and how
 * much it takes. Prints: packets queued, received, dropped, refusals played, units of several packets.
 *
 *   udp_tx SEED ROUNDS FAMILY MTU */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "must.h"
#include "udp.h"

enum { PEERS = 3, PACKETS_MAX = 1 << 20 };

static uint64_t state, played, units;
static bool honest;
static uint8_t arrived[PACKETS_MAX];

static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)((state >> 33) % below);
}

int __real_sendmmsg(int, struct mmsghdr *, unsigned, int);
int __wrap_sendmmsg(int, struct mmsghdr *, unsigned, int);

static bool segments(const struct mmsghdr *m)
{
    return m->msg_hdr.msg_iovlen > 1;
}

int __wrap_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    static const int errors[] = {EAGAIN, ENOBUFS, EPERM, EINVAL, EMSGSIZE, EIO};

    MUST(count > 0 && count <= AB_UDP_TX_SEGMENTS && flags == MSG_DONTWAIT);
    if (!honest && draw(4) == 0) {
        errno = errors[draw(AB_ARRAY_LEN(errors))];
        /* a kernel says EIO of a unit alone, and takes single packets: otherwise it is a drop */
        played++;
        return -1;
    }
    if (!honest && count > 1 && draw(3) == 0)
        count = 1 + draw(count - 1);
    for (unsigned i = 0; i < count; i++)
        units += segments(&messages[i]);
    return __real_sendmmsg(fd, messages, count, flags);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 in;
    socklen_t bytes = sizeof(in);

    MUST(getsockname(fd, (struct sockaddr *)&in, &bytes) == 0);
    return ntohs(in.sin6_port);
}

static int bound(int family)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    MUST(fd >= 0);
    MUST(bind(fd, family == AF_INET ? (void *)&in : (void *)&in6, family == AF_INET ? sizeof(in) : sizeof(in6)) == 0);
    return fd;
}

static struct ab_udp sender, peers[PEERS];
static struct ab_stats_queue stats[PEERS + 1];

/* What a peer has received: whole, from where it was sent, marked as it was. */
static uint64_t collect(struct ab_udp *u)
{
    struct ab_dgram d[64];
    uint64_t total = 0;
    uint32_t count, cut;

    while ((count = ab_udp_rx(u, d, 64, &cut)) > 0) {
        MUST(cut == 0);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t number, len, peer;

            MUST(d[i].len >= 12);
            memcpy(&number, d[i].data, 4);
            memcpy(&len, d[i].data + 4, 4);
            memcpy(&peer, d[i].data + 8, 4);
            MUST(number < PACKETS_MAX && len == d[i].len && &peers[peer] == u && !arrived[number]++);
            MUST(d[i].sport == sender.port && memcmp(d[i].src, sender.addr, 16) == 0 &&
                 d[i].tos == (number & 16 ? 2 : 0));
            for (uint32_t at = 12; at < len; at++)
                MUST(d[i].data[at] == (uint8_t)(number + at));
        }
        total += count;
    }
    return total;
}

int main(int argc, char **argv)
{
    int family = argc > 3 && argv[3][0] == '6' ? AF_INET6 : AF_INET;
    uint32_t mtu = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 1500, most = AB_MIN(mtu, AB_UDP_TX_MOST) - 48;
    uint64_t received = 0, queued = 0;
    struct ab_path path = {.family = family == AF_INET ? 4 : 6};
    struct ab_error err;

    MUST(argc > 2);
    state = strtoull(argv[1], NULL, 10);
    MUST(ab_udp_open(&sender, bound(family), AB_UDP_QUIC, mtu, &stats[PEERS], 0, &err) == 0);
    MUST(sender.tx.room >= AB_MIN(mtu, AB_UDP_TX_MOST) && sender.tx.room >= AB_UDP_TX_ROOM);
    for (int i = 0; i < PEERS; i++)
        MUST(ab_udp_open(&peers[i], bound(family), AB_UDP_QUIC, mtu, &stats[i], 0, &err) == 0);
    memcpy(path.local, sender.addr, 16);
    path.local_port = port_of(sender.fd);
    for (long round = strtol(argv[2], NULL, 10); round >= 0; round--) {
        uint32_t want = draw(100), len = 100 + draw(most - 152), peer = draw(PEERS);

        honest = round == 0; /* at the end all that is left goes out */
        for (uint32_t i = 0; i < want; i++) {
            int buffer = ab_udp_tx_take(&sender.tx);
            uint32_t number = (uint32_t)queued;
            uint8_t *data;

            if (buffer < 0)
                break;
            if (draw(10) == 0)
                len = 12 + draw(most - 12);
            if (draw(20) == 0)
                peer = draw(PEERS);
            data = ab_udp_tx_data(&sender.tx, (uint32_t)buffer);
            memcpy(path.remote, peers[peer].addr, 16);
            path.remote_port = peers[peer].port;
            memcpy(data, &number, 4);
            memcpy(data + 4, &len, 4);
            memcpy(data + 8, &peer, 4);
            for (uint32_t at = 12; at < len; at++)
                data[at] = (uint8_t)(number + at);
            ab_udp_tx_queue(&sender.tx, &path, (uint32_t)buffer, len, number & 16 ? 2 : 0);
            queued++;
            MUST(queued < PACKETS_MAX);
        }
        if (draw(2) == 0)
            sender.tx.gso = true; /* as if it had not been given up */
        ab_udp_tx_flush(&sender.tx);
        for (int i = 0; i < PEERS; i++)
            received += collect(&peers[i]);
        MUST(sender.tx.free_count + sender.tx.queued == AB_UDP_TX_BUFFERS);
        MUST(stats[PEERS].tx_packets == stats[PEERS].tx_completed + stats[PEERS].tx_dropped);
        MUST(stats[PEERS].tx_packets + sender.tx.queued == queued);
    }
    MUST(sender.tx.queued == 0 && received == stats[PEERS].tx_completed);
    printf("%llu %llu %llu %llu %llu\n", (unsigned long long)queued, (unsigned long long)received,
           (unsigned long long)stats[PEERS].tx_dropped, (unsigned long long)played, (unsigned long long)units);
    ab_udp_close(&sender);
    for (int i = 0; i < PEERS; i++)
        ab_udp_close(&peers[i]);
    return 0;
}
