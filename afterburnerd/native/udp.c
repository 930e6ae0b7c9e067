#include "udp.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static void map_address(uint8_t out[16], uint16_t *port, const void *address)
{
    const struct sockaddr *sa = address;

    memset(out, 0, 16);
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = address;

        *port = ntohs(in->sin_port);
        if (in->sin_addr.s_addr == INADDR_ANY)
            return;
        out[10] = out[11] = 0xff;
        memcpy(out + 12, &in->sin_addr, 4);
    } else {
        const struct sockaddr_in6 *in6 = address;

        *port = ntohs(in6->sin6_port);
        memcpy(out, &in6->sin6_addr, 16);
    }
}

static int refuse(struct ab_udp *u, int code, struct ab_error *err, const char *what)
{
    bool ours = code <= AB_EINVAL; /* no errno */
    int rc = ab_fail(err, code, "UDP socket: %s%s%s", what, ours ? "" : ": ", ours ? "" : strerror(-code));

    ab_udp_close(u);
    return rc;
}

/* What a QUIC socket is told. ECN and units are had or not; without the others packets could leave in fragments. */
static int set_quic(struct ab_udp *u, int family, struct ab_error *err)
{
    int on = 1, probe = family == AF_INET ? IP_PMTUDISC_PROBE : IPV6_PMTUDISC_PROBE, bytes = AB_UDP_BUFFER;

    if (family == AF_INET) {
        (void)setsockopt(u->fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on));
        if (setsockopt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe)) != 0)
            return refuse(u, -errno, err, "setsockopt(IP_MTU_DISCOVER, PROBE) failed");
    } else {
        int mapped = IP_PMTUDISC_PROBE;

        (void)setsockopt(u->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, &on, sizeof(on));
        (void)setsockopt(u->fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof(on)); /* of IPv4 on a socket for both */
        (void)setsockopt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, &mapped, sizeof(mapped));
        if (setsockopt(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &probe, sizeof(probe)) != 0)
            return refuse(u, -errno, err, "setsockopt(IPV6_MTU_DISCOVER, PROBE) failed");
    }
    (void)setsockopt(u->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
    /* Beyond the limit of the system with CAP_NET_ADMIN, which is still there when the first sockets are opened. */
    if (setsockopt(u->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(u->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    if (setsockopt(u->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0)
        (void)setsockopt(u->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    return 0;
}

int ab_udp_open(struct ab_udp *u, int fd, enum ab_udp_use use, uint32_t mtu, struct ab_stats_queue *stats,
                uint32_t number, struct ab_error *err)
{
    static const uint8_t any[16];
    struct sockaddr_in6 local = {0};
    socklen_t bytes = sizeof(local);
    int on = 1, family, rc;

    memset(u, 0, sizeof(*u));
    u->fd = fd;
    if (getsockname(fd, (struct sockaddr *)&local, &bytes) != 0)
        return refuse(u, -errno, err, "getsockname failed");
    family = local.sin6_family;
    map_address(u->addr, &u->port, &local);
    /* Which address a datagram was sent to, where the socket is bound to any. */
    if (family == AF_INET)
        (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
    else
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
    u->quic = use == AB_UDP_QUIC;
    u->batch = u->quic ? AB_UDP_UNITS : AB_UDP_BATCH;
    u->room = u->quic ? AB_UDP_UNIT : ab_udp_room(mtu, AB_UDP_BYTES);
    u->buffers = calloc(u->batch, u->room);
    if (!u->buffers)
        return refuse(u, AB_ENOMEM, err, "no memory for its buffers");
    for (uint32_t i = 0; i < u->batch; i++) {
        u->in_iov[i] = (struct iovec){.iov_base = u->buffers + (size_t)i * u->room, .iov_len = u->room};
        u->in[i].msg_hdr = (struct msghdr){
            .msg_name = &u->peers[i], .msg_iov = &u->in_iov[i], .msg_iovlen = 1, .msg_control = u->control[i]};
    }
    if (u->quic && (rc = set_quic(u, family, err)))
        return rc;
    if (u->quic && (rc = ab_udp_tx_init(&u->tx, fd, family, memcmp(u->addr, any, 16) == 0, mtu, stats, err))) {
        ab_udp_close(u);
        return rc;
    }
    u->stats = stats;
    AB_STAT_SET(&stats->mode, AB_QUEUE_MODE_SOCKET);
    AB_STAT_SET(&stats->queue, number);
    AB_STAT_SET(&stats->frames, 0);
    return 0;
}

void ab_udp_close(struct ab_udp *u)
{
    if (u->fd >= 0)
        close(u->fd);
    free(u->buffers);
    ab_udp_tx_fini(&u->tx);
    if (u->stats)
        AB_STAT_SET(&u->stats->mode, AB_QUEUE_MODE_CLOSED);
    memset(u, 0, sizeof(*u));
    u->fd = -1;
}

/* What the kernel says of a message beside its bytes. Returns the size of the segments it was put together from, or 0.
 */
static uint32_t read_control(const struct ab_udp *u, struct msghdr *header, struct ab_dgram *d)
{
    uint32_t segment = 0;
    int value;

    memcpy(d->dst, u->addr, 16);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;

            memcpy(&info, CMSG_DATA(c), sizeof(info));
            memset(d->dst, 0, 10);
            d->dst[10] = d->dst[11] = 0xff;
            memcpy(d->dst + 12, &info.ipi_addr, 4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info6;

            memcpy(&info6, CMSG_DATA(c), sizeof(info6));
            memcpy(d->dst, &info6.ipi6_addr, 16);
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            d->tos = *(const uint8_t *)CMSG_DATA(c); /* one byte (net/ipv4/ip_sockglue.c) */
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, CMSG_DATA(c), sizeof(value));
            d->tos = (uint8_t)value;
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&value, CMSG_DATA(c), sizeof(value));
            segment = value > 0 ? (uint32_t)value : 0;
        }
    }
    return segment;
}

static bool is_mapped(const uint8_t *address)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(address, prefix, sizeof(prefix)) == 0;
}

/* Datagrams of the units that are there, up to `max`. A unit is one datagram, or several of one size, the last perhaps
 * shorter (UDP_GRO). */
static uint32_t hand_out(struct ab_udp *u, struct ab_dgram *out, uint32_t max, uint32_t *cut)
{
    uint32_t kept = 0;

    while (u->unit < u->units && kept < max) {
        uint32_t i = u->unit, len = u->in[i].msg_len, segment;
        struct ab_dgram *first = &out[kept];

        if (u->in[i].msg_hdr.msg_flags & MSG_TRUNC) {
            ++*cut;
            u->unit++;
            continue;
        }
        memset(first, 0, sizeof(*first));
        map_address(first->src, &first->sport, &u->peers[i]);
        first->dport = u->port;
        segment = read_control(u, &u->in[i].msg_hdr, first);
        if (segment == 0 || segment > len)
            segment = len;
        first->addr = i;
        first->family = is_mapped(first->src) ? 4 : 6;
        do {
            struct ab_dgram *d = &out[kept++];

            if (d != first)
                *d = *first;
            d->data = u->buffers + (size_t)i * u->room + u->cut_at;
            d->len = AB_MIN(segment, len - u->cut_at);
            u->cut_at += d->len;
        } while (u->cut_at < len && kept < max);
        if (u->cut_at < len)
            break;
        u->cut_at = 0;
        u->unit++;
    }
    return kept;
}

uint32_t ab_udp_rx(struct ab_udp *u, struct ab_dgram *out, uint32_t max, uint32_t *cut)
{
    uint32_t kept, want;
    uint64_t bytes = 0;
    int count;

    *cut = 0;
    if (u->unit == u->units) {
        want = AB_MIN(max, u->batch);
        for (uint32_t i = 0; i < want; i++) {
            u->in[i].msg_hdr.msg_namelen = sizeof(u->peers[i]);
            u->in[i].msg_hdr.msg_controllen = sizeof(u->control[i]);
        }
        AB_STAT_ADD(&u->stats->rx_kicks, 1);
        count = recvmmsg(u->fd, u->in, want, MSG_DONTWAIT, NULL);
        if (count <= 0)
            return 0;
        u->unit = 0;
        u->units = (uint32_t)count;
        for (uint32_t i = 0; i < u->units; i++)
            bytes += u->in[i].msg_len;
        AB_STAT_ADD(&u->stats->rx_bytes, bytes);
        AB_STAT_ADD(&u->stats->rx_bursts, 1);
    }
    kept = hand_out(u, out, max, cut);
    AB_STAT_ADD(&u->stats->rx_packets, kept + *cut);
    return kept;
}

void ab_udp_reply(struct ab_udp *u, const struct ab_dgram *d)
{
    uint32_t i = u->replies++;

    u->out_iov[i] = (struct iovec){.iov_base = d->data, .iov_len = d->len};
    u->out[i].msg_hdr = (struct msghdr){.msg_name = &u->peers[d->addr],
                                        .msg_namelen = u->in[d->addr].msg_hdr.msg_namelen,
                                        .msg_iov = &u->out_iov[i],
                                        .msg_iovlen = 1};
}

void ab_udp_flush(struct ab_udp *u)
{
    uint32_t at = 0, sent = 0;
    uint64_t bytes = 0;
    int count;

    if (u->tx.queued)
        ab_udp_tx_flush(&u->tx);
    if (u->replies == 0)
        return;
    /* sendmmsg stops at the first message that fails: that one is left out and the rest tried again, or one peer that
     * cannot be answered (source port 0, no route) would cost the others of its burst their answers. Each round
     * disposes of a message at least. */
    while (at < u->replies) {
        count = sendmmsg(u->fd, u->out + at, u->replies - at, MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == ENOBUFS))
            break; /* no room for any of them */
        if (count < 0) {
            at++;
            continue;
        }
        for (int i = 0; i < count; i++)
            bytes += u->out[at + (uint32_t)i].msg_len;
        at += (uint32_t)count;
        sent += (uint32_t)count;
    }
    AB_STAT_ADD(&u->stats->tx_packets, sent);
    AB_STAT_ADD(&u->stats->tx_bytes, bytes);
    AB_STAT_ADD(&u->stats->tx_completed, sent);
    AB_STAT_ADD(&u->stats->tx_dropped, u->replies - sent);
    u->replies = 0;
}
