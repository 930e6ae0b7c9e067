/* Congestion control: how many bytes may be under way (RFC 9002 section 7, RFC 9438, RFC 9406).
 *
 *   sent   ab_quic_cc_sent(packet)                                     in_flight grows
 *   ACK    ab_quic_cc_ack_packet(packet) for each newly acknowledged   in_flight shrinks, bytes are summed up
 *          ab_quic_cc_lose_packet(packet) for each one found lost
 *          ab_quic_cc_update(...) once, at the end                     the window moves
 *
 * One struct for NewReno and CUBIC (which is what the validators' own client runs), told apart by `kind`, no function
 * pointers; the per-packet verbs are a few additions, everything else happens once for each ACK. Integer arithmetic
 * alone: bytes and nanoseconds in 64 bits.
 *
 * A packet is known by the time it was sent. A loss or a CE mark of one sent before the present recovery period began
 * belongs to what was answered already (RFC 9002 7.3.2). And the window grows only for packets during whose time under
 * way it was full (7.8): `full_ns` is the last time that it was, so the test is one comparison.
 *
 * ACK-only packets are neither sent nor acknowledged here (they are not in flight, RFC 9002 section 2). */
#ifndef AB_QUIC_CC_H
#define AB_QUIC_CC_H

#include "quic.h"
#include "quic_rtt.h"

#define AB_QUIC_CC_INITIAL_WINDOW (128 * 1232) /* bytes; what the validators' own client begins with */
#define AB_QUIC_CC_MINIMUM_PACKETS 2           /* kMinimumWindow (RFC 9002 7.2) */
#define AB_QUIC_CC_WINDOW_MAX (1ULL << 32)     /* bytes; beyond this nothing is gained, and products stay in 64 bits */

struct ab_quic_cc {
    /* The hot part: read or written for every packet. */
    uint64_t window;       /* bytes that may be in flight */
    uint64_t in_flight;    /* bytes sent, neither acknowledged nor lost */
    uint64_t recovery_ns;  /* the recovery period began then: packets sent at that time or before belong to it */
    uint64_t full_ns;      /* when the window was last full, or would have been but for pacing; 0 never */
    uint64_t last_sent_ns; /* when something in flight was last sent; 0 never */
    uint64_t acked;        /* bytes acknowledged since the last update that may let the window grow */
    uint64_t lost_sent_ns; /* the latest time at which a packet was sent that was lost since the last update; 0 none */
    uint32_t mtu;          /* bytes of a full datagram (max_datagram_size) */
    uint8_t kind;          /* enum ab_quic_cc_kind */
    bool in_recovery;      /* no packet sent after recovery_ns was acknowledged yet */
    bool hystart;          /* leave slow start by HyStart++ too */
    uint8_t css_rounds;    /* rounds of conservative slow start so far */

    /* Once for each ACK. */
    uint64_t ssthresh; /* bytes; UINT64_MAX before the first congestion */
    uint64_t initial;  /* bytes; the window at the beginning and after idleness */
    uint64_t partial;  /* what is acknowledged towards the next step of the additive increase */
    uint64_t events;   /* reductions of the window, for statistics */

    /* CUBIC (RFC 9438 section 4.1) */
    uint64_t w_max;      /* bytes; the window before the last reduction, less by fast convergence */
    uint64_t w_est;      /* bytes; what Reno would have */
    uint64_t prior;      /* bytes; the window when the last reduction was made */
    uint64_t epoch_ns;   /* when the present growth began; 0 none */
    uint64_t origin;     /* bytes; the plateau of the present growth */
    uint64_t k_ns;       /* time from epoch_ns to the plateau */
    uint64_t cubic_rest; /* of the last step: bytes times the window */
    uint64_t starved_ns; /* since when the window was not full in congestion avoidance; 0 it is */

    /* HyStart++ (RFC 9406 section 4.2) */
    uint64_t round_ns;      /* when the present round began */
    uint64_t round_min_ns;  /* smallest RTT of this round; UINT64_MAX none */
    uint64_t last_min_ns;   /* of the round before */
    uint64_t css_base_ns;   /* smallest RTT when conservative slow start was entered; 0 not in it */
    uint32_t round_samples; /* RTT samples of this round */
};

/* What ab_quic_cc_update did. */
enum ab_quic_cc_event {
    AB_QUIC_CC_NOTHING,
    AB_QUIC_CC_REDUCED,   /* a recovery period begins: one packet may be sent whatever the window (7.3.2) */
    AB_QUIC_CC_COLLAPSED, /* persistent congestion: restart min_rtt (RFC 9002 5.2) */
};

/* ab_quic_cc_init: initial_window in bytes, 0: AB_QUIC_CC_INITIAL_WINDOW; mtu: bytes of a full datagram. */
void ab_quic_cc_init(struct ab_quic_cc *c, enum ab_quic_cc_kind kind, bool hystart, uint64_t initial_window,
                     uint32_t mtu);

/* ab_quic_cc_set_mtu: the datagrams got larger (or smaller); the window stays unless it is below the minimum. */
void ab_quic_cc_set_mtu(struct ab_quic_cc *c, uint32_t mtu);

/* ab_quic_cc_room: bytes that may still be sent. PTO probes go out regardless (RFC 9002 7.5). */
static inline uint64_t ab_quic_cc_room(const struct ab_quic_cc *c)
{
    return c->window > c->in_flight ? c->window - c->in_flight : 0;
}

/* ab_quic_cc_restart: what ab_quic_cc_sent does after idleness. */
void ab_quic_cc_restart(struct ab_quic_cc *c, uint64_t pto_ns, uint64_t now);

/* ab_quic_cc_sent: a packet of `bytes` that is in flight was sent at `now`. pto_ns: ab_quic_rtt_pto; where nothing was
 * sent for longer than that, the window falls back to the initial one first (RFC 5681 4.1). */
static inline void ab_quic_cc_sent(struct ab_quic_cc *c, uint32_t bytes, uint64_t pto_ns, uint64_t now)
{
    if (ab_unlikely(c->in_flight == 0))
        ab_quic_cc_restart(c, pto_ns, now);
    c->in_flight += bytes;
    c->last_sent_ns = now;
    if (c->in_flight + c->mtu > c->window) /* no room for another */
        c->full_ns = now;
}

/* ab_quic_cc_blocked: sending stopped although `backlog` bytes wait, be it for the window or the pacer: without it the
 * window would be full (RFC 9002 7.8). UINT64_MAX where the backlog is not known. */
static inline void ab_quic_cc_blocked(struct ab_quic_cc *c, uint64_t backlog, uint64_t now)
{
    if (backlog >= ab_quic_cc_room(c))
        c->full_ns = now;
}

/* ab_quic_cc_ack_packet: a packet in flight, sent at sent_ns, is newly acknowledged. */
static inline void ab_quic_cc_ack_packet(struct ab_quic_cc *c, uint32_t bytes, uint64_t sent_ns)
{
    c->in_flight -= AB_MIN(bytes, c->in_flight);
    if (sent_ns > c->recovery_ns && sent_ns <= c->full_ns)
        c->acked += bytes;
}

/* ab_quic_cc_lose_packet: a packet in flight, sent at sent_ns, is lost. Not for probes of the path's MTU (RFC
 * 9000 14.4: their loss says nothing of congestion); those and discarded packets are ab_quic_cc_forget's. */
static inline void ab_quic_cc_lose_packet(struct ab_quic_cc *c, uint32_t bytes, uint64_t sent_ns)
{
    c->in_flight -= AB_MIN(bytes, c->in_flight);
    c->lost_sent_ns = AB_MAX(c->lost_sent_ns, sent_ns);
}

static inline void ab_quic_cc_forget(struct ab_quic_cc *c, uint32_t bytes)
{
    c->in_flight -= AB_MIN(bytes, c->in_flight);
}

/* ab_quic_cc_update: after all packets of an ACK (or of a loss timer) were told. rtt: with the newest sample in;
 * largest_sent_ns: when the largest newly acknowledged packet was sent, 0 none; ce: the peer's count of CE marks grew,
 * by what this ACK acknowledges; persistent: persistent congestion was established (7.6). Returns enum
 * ab_quic_cc_event. */
enum ab_quic_cc_event ab_quic_cc_update(struct ab_quic_cc *c, const struct ab_quic_rtt *rtt, uint64_t largest_sent_ns,
                                        bool ce, bool persistent, uint64_t now);

/* ab_quic_cc_slow_start: whether the window doubles each round trip. */
static inline bool ab_quic_cc_slow_start(const struct ab_quic_cc *c)
{
    return c->window < c->ssthresh;
}

/* ab_quic_cc_cube_root: the largest integer whose cube is not above `v`. */
uint32_t ab_quic_cc_cube_root(uint64_t v);

#endif
