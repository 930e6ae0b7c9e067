/* Pacing: a window's worth of packets spread over a round trip, not sent in one burst (RFC 9002 section 7.7).
 *
 * A bucket of bytes fills at gain * window / smoothed RTT and is bounded by a burst. It fills faster than the window
 * empties (gain 1.25; 2 in slow start), so it never is what limits the rate over a round trip.
 *
 * Where the round trip is shorter than timers are worth, pacing is off: on a veth pair (10 us) or in one rack the whole
 * window belongs on the wire at once, and waiting would be all that the latency consists of. */
#ifndef AB_QUIC_PACER_H
#define AB_QUIC_PACER_H

#include "quic_cc.h"

#define AB_QUIC_PACER_MIN_RTT_NS 500000ULL /* below: not paced. Half of kGranularity (RFC 9002 6.1.2) */
#define AB_QUIC_PACER_BURST_PACKETS 16     /* the least burst: what one UDP_SEGMENT send or a NIC's doorbell carries */
#define AB_QUIC_PACER_UNLIMITED UINT64_MAX

struct ab_quic_pacer {
    uint64_t rate;      /* bytes in 2^20 ns; 0: not paced */
    uint64_t tokens;    /* bytes that may be sent at `filled_ns` */
    uint64_t burst;     /* bytes: the most that the bucket holds */
    uint64_t filled_ns; /* when `tokens` was true */
    uint64_t fill_ns;   /* time in which an empty bucket is full */
    uint64_t rest;      /* of the last filling: 2^20ths of a byte */
    bool enabled;
};

/* ab_quic_pacer_init: burst_bytes: what may go at once at the beginning and after a pause, at most the initial window
 * (RFC 9002 7.7); 0: AB_QUIC_CC_INITIAL_WINDOW. Unlimited until the first ab_quic_pacer_update with an RTT sample. */
void ab_quic_pacer_init(struct ab_quic_pacer *p, bool enabled, uint64_t burst_bytes, uint64_t now);

/* ab_quic_pacer_update: window or RTT changed; once for each ACK. */
void ab_quic_pacer_update(struct ab_quic_pacer *p, const struct ab_quic_cc *c, const struct ab_quic_rtt *rtt,
                          uint64_t now);

/* ab_quic_pacer_fill: brings the bucket up to `now`. */
void ab_quic_pacer_fill(struct ab_quic_pacer *p, uint64_t now);

/* ab_quic_pacer_room: bytes that may be sent at `now`; AB_QUIC_PACER_UNLIMITED where it does not pace. A datagram goes
 * as soon as the room is that of a whole one. */
static inline uint64_t ab_quic_pacer_room(struct ab_quic_pacer *p, uint64_t now)
{
    if (p->rate == 0)
        return AB_QUIC_PACER_UNLIMITED;
    if (now > p->filled_ns)
        ab_quic_pacer_fill(p, now);
    return p->tokens;
}

/* ab_quic_pacer_sent: `bytes` were sent. Probes and ACKs may overdraw; the bucket is empty then. */
static inline void ab_quic_pacer_sent(struct ab_quic_pacer *p, uint32_t bytes)
{
    p->tokens -= AB_MIN(bytes, p->tokens);
}

/* ab_quic_pacer_when: the time at which there is room for `bytes`: the deadline of one who was told to wait. 0: now. */
uint64_t ab_quic_pacer_when(const struct ab_quic_pacer *p, uint32_t bytes);

#endif
