/* How large a datagram the path carries: DPLPMTUD (RFC 8899, RFC 9000 section 14.3). Sizes are bytes of UDP payload.
 *
 *   base 1200 ----- size ------------- probe -------- failed --------- max
 *                   carried, in use    under way      not carried      what interface and peer allow
 *
 * The search tries max at once, since nearly every path carries what its interface does; where that fails it tries the
 * sizes that tunnels and providers are known for, then halves what is left until the gain is not worth a packet. Found,
 * it rests and tries again after ten minutes. A probe is an ordinary packet of PING and PADDING of exactly that size;
 * its loss says nothing of congestion, and after three the size counts as not carried.
 *
 * A black hole is a path that stops carrying what it carried (RFC 8899 4.3): large packets die while nothing larger
 * than base gets through that was sent later. Then the size falls back to base and the search begins anew: at once the
 * first time, for the path has changed; after 1 s, 2 s, 4 s ... where that happens again, for a path that carries large
 * packets now and then is one that carries none. */
#ifndef AB_QUIC_MTU_H
#define AB_QUIC_MTU_H

#include "base.h"

#define AB_QUIC_MTU_BASE 1200                /* BASE_PLPMTU: what every path of QUIC carries (RFC 9000 14.1) */
#define AB_QUIC_MTU_PROBES 3                 /* MAX_PROBES (RFC 8899 5.1.2) */
#define AB_QUIC_MTU_RAISE_NS 600000000000ULL /* PMTU_RAISE_TIMER: 600 s (RFC 8899 5.1.1) */
#define AB_QUIC_MTU_AGAIN_NS 1000000000ULL   /* pause of the search after the second black hole; doubles with each */
#define AB_QUIC_MTU_GAIN 20                  /* bytes; the search ends when less than this is left to be gained */
/* Times that large packets were found lost, and none sent later acknowledged, that make a black hole; or PTOs in a row.
 * One is what any burst of congestion does, three are three round trips without one large packet. */
#define AB_QUIC_MTU_BLACKHOLE 3

enum ab_quic_mtu_state {
    AB_QUIC_MTU_DISABLED, /* max is base, or discovery is switched off */
    AB_QUIC_MTU_SEARCHING,
    AB_QUIC_MTU_COMPLETE, /* nothing more to be gained until raise_ns */
};

struct ab_quic_mtu {
    uint64_t raise_ns;    /* COMPLETE: when the search begins anew; UINT64_MAX never */
    uint64_t large_acked; /* largest packet number acknowledged of a packet above base; UINT64_MAX none */
    uint64_t lost_ns;     /* when large packets were last found lost */
    uint64_t black_holes; /* how often it fell back, for statistics */
    uint16_t size;        /* what datagrams may have now; the sending side reads nothing but this */
    uint16_t max;         /* never tried beyond */
    uint16_t failed;      /* smallest size that is not carried; max + 1: none is known */
    uint16_t probe;       /* size that is being tried, 0 none */
    uint8_t tries;        /* probes of that size that were lost */
    uint8_t lost;         /* times in a row that large packets were found lost */
    uint8_t state;        /* enum ab_quic_mtu_state */
    bool waiting;         /* a probe is under way */
};

/* ab_quic_mtu_init: a new path. max: the least of the interface's MTU without headers and the peer's
 * max_udp_payload_size; at most AB_QUIC_MTU_BASE (or search false) disables the search. */
void ab_quic_mtu_init(struct ab_quic_mtu *m, uint32_t max, bool search);

/* ab_quic_mtu_set_max: interface or ICMP say otherwise; the size falls at once where it is above. */
void ab_quic_mtu_set_max(struct ab_quic_mtu *m, uint32_t max);

/* ab_quic_mtu_probe: the size of a probe that should be sent now, 0: none. Asking twice gives the same answer until
 * ab_quic_mtu_probe_sent. */
uint32_t ab_quic_mtu_probe(struct ab_quic_mtu *m, uint64_t now);
void ab_quic_mtu_probe_sent(struct ab_quic_mtu *m);

/* ab_quic_mtu_probe_acked, ab_quic_mtu_probe_lost: what became of a probe of `size`. True: m->size has changed. */
bool ab_quic_mtu_probe_acked(struct ab_quic_mtu *m, uint32_t size, uint64_t now);
void ab_quic_mtu_probe_lost(struct ab_quic_mtu *m, uint32_t size, uint64_t now);

/* ab_quic_mtu_acked, ab_quic_mtu_lost: the fate of any other packet of `size` bytes. True: a black hole was found, and
 * m->size is base again. Within one ACK tell of what is acknowledged first. */
static inline void ab_quic_mtu_acked(struct ab_quic_mtu *m, uint64_t pn, uint32_t size)
{
    if (size > AB_QUIC_MTU_BASE && (m->large_acked == UINT64_MAX || pn > m->large_acked)) {
        m->large_acked = pn;
        m->lost = 0;
    }
}

bool ab_quic_mtu_lost(struct ab_quic_mtu *m, uint64_t pn, uint32_t size, uint64_t now);

/* ab_quic_mtu_pto: the PTO expired `count` times in a row: where all that is sent is large, nothing comes back that
 * could tell a loss. True as above. */
bool ab_quic_mtu_pto(struct ab_quic_mtu *m, uint32_t count, uint64_t now);

/* ab_quic_mtu_deadline: when ab_quic_mtu_probe has something to say: 0 now, UINT64_MAX never. */
static inline uint64_t ab_quic_mtu_deadline(const struct ab_quic_mtu *m)
{
    if (m->state == AB_QUIC_MTU_SEARCHING)
        return m->waiting ? UINT64_MAX : 0;
    return m->state == AB_QUIC_MTU_COMPLETE ? m->raise_ns : UINT64_MAX;
}

#endif
