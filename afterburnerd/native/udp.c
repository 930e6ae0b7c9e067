#include "udp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

int ab_udp_open(struct ab_udp *u, int fd, struct ab_stats_queue *stats, uint32_t number, struct ab_error *err)
{
    struct sockaddr_in6 local = {0};
    socklen_t bytes = sizeof(local);
    int on = 1;

    memset(u, 0, sizeof(*u));
    u->fd = fd;
    u->stats = stats;
    if (getsockname(fd, (struct sockaddr *)&local, &bytes) != 0) {
        int rc = ab_fail(err, -errno, "UDP socket: getsockname failed: %s", strerror(errno));

        close(fd);
        u->fd = -1;
        return rc;
    }
    map_address(u->addr, &u->port, &local);
    /* Which address a datagram was sent to, where the socket is bound to any. */
    if (local.sin6_family == AF_INET)
        (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
    else
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
    u->buffers = malloc((size_t)AB_UDP_BATCH * AB_UDP_BYTES);
    if (!u->buffers) {
        close(fd);
        u->fd = -1;
        return ab_fail(err, AB_ENOMEM, "UDP socket: no memory for %d buffers", AB_UDP_BATCH);
    }
    for (uint32_t i = 0; i < AB_UDP_BATCH; i++) {
        u->in_iov[i] = (struct iovec){.iov_base = u->buffers + (size_t)i * AB_UDP_BYTES, .iov_len = AB_UDP_BYTES};
        u->in[i].msg_hdr = (struct msghdr){
            .msg_name = &u->peers[i], .msg_iov = &u->in_iov[i], .msg_iovlen = 1, .msg_control = u->control[i]};
    }
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
    if (u->stats)
        AB_STAT_SET(&u->stats->mode, AB_QUEUE_MODE_CLOSED);
    memset(u, 0, sizeof(*u));
    u->fd = -1;
}

static void destination(struct ab_udp *u, struct msghdr *header, struct ab_dgram *d)
{
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
        }
    }
}

uint32_t ab_udp_rx(struct ab_udp *u, struct ab_dgram *out, uint32_t max, uint32_t *cut)
{
    uint32_t kept = 0;
    uint64_t bytes = 0;
    int count;

    *cut = 0;
    max = AB_MIN(max, AB_UDP_BATCH);
    for (uint32_t i = 0; i < max; i++) {
        u->in[i].msg_hdr.msg_namelen = sizeof(u->peers[i]);
        u->in[i].msg_hdr.msg_controllen = sizeof(u->control[i]);
    }
    count = recvmmsg(u->fd, u->in, max, MSG_DONTWAIT, NULL);
    if (count <= 0)
        return 0;
    for (uint32_t i = 0; i < (uint32_t)count; i++) {
        struct ab_dgram *d = &out[kept];

        bytes += u->in[i].msg_len;
        if (u->in[i].msg_hdr.msg_flags & MSG_TRUNC) {
            ++*cut;
            continue;
        }
        memset(d, 0, sizeof(*d));
        d->data = u->buffers + (size_t)i * AB_UDP_BYTES;
        d->len = u->in[i].msg_len;
        d->addr = i;
        map_address(d->src, &d->sport, &u->peers[i]);
        d->dport = u->port;
        destination(u, &u->in[i].msg_hdr, d);
        d->family = u->peers[i].sin6_family == AF_INET ? 4 : 6;
        kept++;
    }
    AB_STAT_ADD(&u->stats->rx_packets, count);
    AB_STAT_ADD(&u->stats->rx_bytes, bytes);
    AB_STAT_ADD(&u->stats->rx_bursts, 1);
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
