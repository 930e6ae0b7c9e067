/* Sending through a UDP socket: packets collected in buffers of ours, sent as few system calls as the kernel allows.
 *
 *   reserve -> buffers -> engine seals packets in them -> send -> groups: one destination, one size -> flush: sendmmsg
 *
 * A group goes as one unit with UDP_SEGMENT (GSO, Linux 4.18), the kernel or the NIC cuts it: all packets of one size,
 * the last may be shorter, one destination, one DSCP/ECN. Where the kernel refuses GSO (EIO: no checksum offload on the
 * device; EINVAL: a segment longer than the route's MTU) the packets of the group go one by one, nothing is lost.
 * What a full socket does not take (EAGAIN) stays here for the next flush; buffers in it are missing to `reserve`, so
 * whoever fills them is pushed back. Each packet is counted exactly once, as sent or as dropped. */
#ifndef AB_UDP_TX_H
#define AB_UDP_TX_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base.h"
#include "path.h"

#define AB_UDP_TX_BUFFERS 256 /* packets collected or stuck at a time */
#define AB_UDP_TX_ROOM 2048   /* bytes of a buffer at least: an MTU of 1,500 and some */
#define AB_UDP_TX_MOST 9216   /* and at most: jumbo frames; a loopback's 65,536 would be 16 MiB */
#define AB_UDP_TX_GROUPS 64   /* units of one flush */
#define AB_UDP_TX_SEGMENTS 64 /* packets of a unit (UDP_MAX_SEGMENTS of include/linux/udp.h up to Linux 6.8) */
#define AB_UDP_TX_UNIT 65000  /* bytes of a unit: below the 65,507 of a UDP datagram */
#define AB_UDP_TX_REFUSALS 16 /* units refused for their size before GSO is given up */

/* ab_udp_group: packets that leave as one message. */
struct ab_udp_group {
    struct ab_path path; /* a copy: the connection may end before the socket takes it */
    uint32_t first;      /* place of its first packet in the queue */
    uint32_t count;      /* packets */
    uint32_t bytes;      /* of all packets */
    uint16_t segment;    /* bytes of each but the last */
    uint8_t tos;         /* DSCP and ECN */
    bool closed;         /* its last packet is shorter: nothing may follow */
};

struct ab_udp_tx {
    int fd;
    int family;        /* AF_INET or AF_INET6 of the socket */
    bool any;          /* bound to no address: the source is named with each message */
    bool gso;          /* units of several packets are taken */
    uint32_t refusals; /* units refused for their size */
    uint32_t room;     /* bytes of a buffer */
    void *memory;
    uint8_t *area; /* in it: AB_UDP_TX_BUFFERS buffers of `room` bytes, on cache lines */
    uint32_t free_count;
    uint16_t free[AB_UDP_TX_BUFFERS];  /* stack of buffers that nobody holds */
    uint32_t queued;                   /* packets in `order` and `pieces` */
    uint16_t order[AB_UDP_TX_BUFFERS]; /* their buffers */
    struct iovec pieces[AB_UDP_TX_BUFFERS];
    uint32_t group_count;
    struct ab_udp_group groups[AB_UDP_TX_GROUPS];
    struct ab_stats_queue *stats;
    /* What one system call takes: filled by flush. */
    struct mmsghdr messages[AB_UDP_TX_SEGMENTS];
    struct sockaddr_in6 peers[AB_UDP_TX_SEGMENTS]; /* room for either family */
    struct {
        _Alignas(struct cmsghdr) char bytes[112];
    } control[AB_UDP_TX_SEGMENTS];
};

_Static_assert(AB_UDP_TX_GROUPS <= AB_UDP_TX_SEGMENTS, "a message for each group");

/* ab_udp_tx_init: buffers have room for what `mtu` allows. */
int ab_udp_tx_init(struct ab_udp_tx *t, int fd, int family, bool any, uint32_t mtu, struct ab_stats_queue *stats,
                   struct ab_error *err);
void ab_udp_tx_fini(struct ab_udp_tx *t);

/* ab_udp_room: bytes of a buffer for a datagram, from `least` where the MTU is usual up to AB_UDP_TX_MOST: whole cache
 * lines. Where it is not known (0) it counts as usual. */
static inline uint32_t ab_udp_room(uint32_t mtu, uint32_t least)
{
    return AB_MAX(least, (AB_MIN(mtu, AB_UDP_TX_MOST) + AB_CACHELINE - 1) & ~(AB_CACHELINE - 1u));
}

/* ab_udp_tx_take: a buffer (its number), or -1 where all are in use. ab_udp_tx_put gives back one that was not queued.
 */
static inline int ab_udp_tx_take(struct ab_udp_tx *t)
{
    return ab_likely(t->free_count) ? t->free[--t->free_count] : -1;
}

static inline void ab_udp_tx_put(struct ab_udp_tx *t, uint32_t buffer)
{
    t->free[t->free_count++] = (uint16_t)buffer;
}

static inline uint8_t *ab_udp_tx_data(const struct ab_udp_tx *t, uint32_t buffer)
{
    return t->area + (size_t)buffer * t->room;
}

/* ab_udp_tx_queue adds a filled buffer to what the next flush sends. */
void ab_udp_tx_queue(struct ab_udp_tx *t, const struct ab_path *p, uint32_t buffer, uint32_t len, uint8_t ecn);

/* ab_udp_tx_flush sends what is queued; what the socket has no room for stays. */
void ab_udp_tx_flush(struct ab_udp_tx *t);

#endif
