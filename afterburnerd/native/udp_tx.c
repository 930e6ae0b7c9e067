#include "udp_tx.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

int ab_udp_tx_init(struct ab_udp_tx *t, int fd, int family, bool any, uint32_t mtu, struct ab_stats_queue *stats,
                   struct ab_error *err)
{
    memset(t, 0, sizeof(*t));
    t->fd = fd;
    t->family = family;
    t->any = any;
    t->stats = stats;
    t->gso = true;
    t->room = ab_udp_room(mtu, AB_UDP_TX_ROOM);
    t->memory = calloc(AB_UDP_TX_BUFFERS + 1, t->room);
    if (!t->memory)
        return ab_fail(err, AB_ENOMEM, "UDP socket: no memory for %d buffers to send from", AB_UDP_TX_BUFFERS);
    t->area = (uint8_t *)(((uintptr_t)t->memory + AB_CACHELINE - 1) & ~(uintptr_t)(AB_CACHELINE - 1));
    for (uint32_t i = 0; i < AB_UDP_TX_BUFFERS; i++)
        t->free[i] = (uint16_t)(AB_UDP_TX_BUFFERS - 1 - i);
    t->free_count = AB_UDP_TX_BUFFERS;
    return 0;
}

void ab_udp_tx_fini(struct ab_udp_tx *t)
{
    free(t->memory);
    memset(t, 0, sizeof(*t));
    t->fd = -1;
}

/* Same addresses and ports: they stand first in struct ab_path, in one piece. */
static bool same_way(const struct ab_path *a, const struct ab_path *b)
{
    return memcmp(a, b, offsetof(struct ab_path, vlan_outer)) == 0;
}

void ab_udp_tx_queue(struct ab_udp_tx *t, const struct ab_path *p, uint32_t buffer, uint32_t len, uint8_t ecn)
{
    struct ab_udp_group *g = t->group_count ? &t->groups[t->group_count - 1] : NULL;
    uint8_t tos = (uint8_t)(p->dscp << 2 | (ecn & 3));

    if (!g || !t->gso || g->closed || len > g->segment || g->count == AB_UDP_TX_SEGMENTS ||
        g->bytes + len > AB_UDP_TX_UNIT || tos != g->tos || !same_way(&g->path, p)) {
        if (ab_unlikely(t->group_count == AB_UDP_TX_GROUPS)) {
            ab_udp_tx_flush(t);
            if (t->group_count == AB_UDP_TX_GROUPS) { /* the socket takes nothing: the network is full here */
                AB_STAT_ADD(&t->stats->tx_packets, 1);
                AB_STAT_ADD(&t->stats->tx_dropped, 1);
                ab_udp_tx_put(t, buffer);
                return;
            }
        }
        g = &t->groups[t->group_count++];
        *g = (struct ab_udp_group){.path = *p, .first = t->queued, .segment = (uint16_t)len, .tos = tos};
    }
    g->closed = len < g->segment;
    g->count++;
    g->bytes += len;
    t->order[t->queued] = (uint16_t)buffer;
    t->pieces[t->queued++] = (struct iovec){.iov_base = ab_udp_tx_data(t, buffer), .iov_len = len};
}

static void add_control(struct msghdr *m, int level, int type, const void *value, size_t bytes)
{
    struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);

    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(c), value, bytes);
    m->msg_controllen += CMSG_SPACE(bytes);
}

/* Message `slot` carries `count` packets of `g` from place `first` on. */
static void fill_message(struct ab_udp_tx *t, uint32_t slot, const struct ab_udp_group *g, uint32_t first,
                         uint32_t count)
{
    const struct ab_path *p = &g->path;
    struct msghdr *m = &t->messages[slot].msg_hdr;
    int tos = g->tos;

    *m = (struct msghdr){.msg_name = &t->peers[slot],
                         .msg_iov = &t->pieces[first],
                         .msg_iovlen = count,
                         .msg_control = t->control[slot].bytes};
    if (t->family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(p->remote_port)};

        memcpy(&in.sin_addr, p->remote + 12, 4);
        memcpy(&t->peers[slot], &in, sizeof(in));
        m->msg_namelen = sizeof(in);
    } else {
        t->peers[slot] = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(p->remote_port)};
        memcpy(&t->peers[slot].sin6_addr, p->remote, 16);
        m->msg_namelen = sizeof(struct sockaddr_in6);
    }
    if (tos && p->family == 4)
        add_control(m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
    else if (tos)
        add_control(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
    if (t->any && p->family == 4) {
        struct in_pktinfo info = {0};

        memcpy(&info.ipi_spec_dst, p->local + 12, 4);
        add_control(m, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else if (t->any) {
        struct in6_pktinfo info = {0};

        memcpy(&info.ipi6_addr, p->local, 16);
        add_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
    if (count > 1)
        add_control(m, IPPROTO_UDP, UDP_SEGMENT, &g->segment, sizeof(g->segment));
    if (m->msg_controllen == 0)
        m->msg_control = NULL;
}

/* `count` packets from place `first` on are done with: their buffers are free again. */
static void finish(struct ab_udp_tx *t, uint32_t first, uint32_t count, bool sent, uint64_t bytes)
{
    struct ab_stats_queue *s = t->stats;

    for (uint32_t i = first; i < first + count; i++)
        ab_udp_tx_put(t, t->order[i]);
    AB_STAT_ADD(&s->tx_packets, count);
    if (sent) {
        AB_STAT_ADD(&s->tx_completed, count);
        AB_STAT_ADD(&s->tx_bytes, bytes);
    } else {
        AB_STAT_ADD(&s->tx_dropped, count);
    }
}

static bool no_room(int error)
{
    return error == EAGAIN || error == ENOBUFS || error == ENOMEM;
}

static int send_messages(struct ab_udp_tx *t, uint32_t first, uint32_t count)
{
    AB_STAT_ADD(&t->stats->tx_kicks, 1);
    return sendmmsg(t->fd, t->messages + first, count, MSG_DONTWAIT);
}

/* A unit that the kernel did not take as one: packet by packet. Returns how many are done with; the rest waits for
 * room. */
static uint32_t send_singly(struct ab_udp_tx *t, const struct ab_udp_group *g)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < g->count; i++)
        fill_message(t, i, g, g->first + i, 1);
    while (at < g->count) {
        int count = send_messages(t, at, g->count - at);

        if (count < 0 && no_room(errno))
            break;
        if (count < 0) { /* too long for the route (EMSGSIZE: a probe for a larger MTU), no route, a filter */
            finish(t, g->first + at, 1, false, 0);
            at++;
            continue;
        }
        for (uint32_t i = 0; i < (uint32_t)count; i++)
            finish(t, g->first + at + i, 1, true, t->pieces[g->first + at + i].iov_len);
        at += (uint32_t)count;
    }
    return at;
}

/* What was not sent moves to the front, as whole groups, the first perhaps without its first `gone` packets. */
static void keep_rest(struct ab_udp_tx *t, uint32_t from, uint32_t gone)
{
    uint32_t base, rest = t->group_count - from;

    if (rest == 0) {
        t->group_count = t->queued = 0;
        return;
    }
    if (gone) {
        struct ab_udp_group *g = &t->groups[from];

        for (uint32_t i = 0; i < gone; i++)
            g->bytes -= (uint32_t)t->pieces[g->first + i].iov_len;
        g->first += gone;
        g->count -= gone;
    }
    base = t->groups[from].first;
    memmove(t->groups, t->groups + from, rest * sizeof(t->groups[0]));
    memmove(t->order, t->order + base, (t->queued - base) * sizeof(t->order[0]));
    memmove(t->pieces, t->pieces + base, (t->queued - base) * sizeof(t->pieces[0]));
    for (uint32_t i = 0; i < rest; i++)
        t->groups[i].first -= base;
    t->group_count = rest;
    t->queued -= base;
}

void ab_udp_tx_flush(struct ab_udp_tx *t)
{
    uint32_t at = 0, gone = 0;
    bool filled = false;

    /* sendmmsg stops at the first message that fails. Each round disposes of a group at least, or ends. */
    while (at < t->group_count) {
        int count;

        for (uint32_t i = at; !filled && i < t->group_count; i++)
            fill_message(t, i, &t->groups[i], t->groups[i].first, t->groups[i].count);
        filled = true;
        count = send_messages(t, at, t->group_count - at);
        if (ab_likely(count > 0)) {
            for (uint32_t i = at; i < at + (uint32_t)count; i++)
                finish(t, t->groups[i].first, t->groups[i].count, true, t->groups[i].bytes);
            at += (uint32_t)count;
            continue;
        }
        if (count < 0 && no_room(errno))
            break;
        if (t->groups[at].count > 1) {
            /* EIO: this device cannot do it at all (net/ipv4/udp.c, udp_send_skb); else it was this unit. */
            if (errno == EIO || ++t->refusals == AB_UDP_TX_REFUSALS)
                t->gso = false;
            gone = send_singly(t, &t->groups[at]);
            filled = false;
            if (gone < t->groups[at].count)
                break;
            gone = 0;
        } else {
            finish(t, t->groups[at].first, 1, false, 0);
        }
        at++;
    }
    keep_rest(t, at, gone);
}
