/* The round-trip time of a path and the periods that follow from it (RFC 9002 sections 5 and 6).
 *
 * Everything is in nanoseconds. The smoothed values are kept by shifts alone: one sample for each ACK costs a few
 * instructions. */
#ifndef AB_QUIC_RTT_H
#define AB_QUIC_RTT_H

#include "base.h"

#define AB_QUIC_RTT_INITIAL_NS 333000000ULL   /* kInitialRtt (RFC 9002 6.2.2) */
#define AB_QUIC_RTT_GRANULARITY_NS 1000000ULL /* kGranularity (RFC 9002 6.1.2), as recommended */
#define AB_QUIC_RTT_PERSISTENT 3              /* kPersistentCongestionThreshold (RFC 9002 7.6.1) */

struct ab_quic_rtt {
    uint64_t latest_ns;        /* the last sample as measured; 0 before the first */
    uint64_t min_ns;           /* the smallest one as measured; 0 before the first */
    uint64_t smoothed_ns;      /* before the first sample: the initial value */
    uint64_t var_ns;           /* mean deviation */
    uint64_t first_ns;         /* when the first sample was taken (persistent congestion needs it: 7.6.2) */
    uint64_t max_ack_delay_ns; /* the peer's max_ack_delay */
    uint64_t granularity_ns;   /* no timer is shorter than this */
    bool sampled;              /* there was a sample */
};

/* ab_quic_rtt_init: a path without a sample. initial_ns: what is assumed until then, 0: kInitialRtt; max_ack_delay_ns:
 * of the peer's transport parameters. */
void ab_quic_rtt_init(struct ab_quic_rtt *r, uint64_t initial_ns, uint64_t max_ack_delay_ns);

/* ab_quic_rtt_sample: the largest acknowledged packet is newly acknowledged, and at least one that is newly
 * acknowledged was ack-eliciting (5.1). ack_delay_ns: what the ACK says, by ab_quic_rtt_ack_delay; confirmed: the
 * handshake is, so that the delay is bounded by max_ack_delay (5.3). */
void ab_quic_rtt_sample(struct ab_quic_rtt *r, uint64_t latest_ns, uint64_t ack_delay_ns, bool confirmed, uint64_t now);

/* ab_quic_rtt_restart_min: the next sample begins the minimum anew: persistent congestion (5.2), or a value that was
 * handed over and is not trusted. */
void ab_quic_rtt_restart_min(struct ab_quic_rtt *r);

/* ab_quic_rtt_ack_delay: the Ack Delay field of an ACK, in nanoseconds, by the peer's exponent (at most 20). */
static inline uint64_t ab_quic_rtt_ack_delay(uint64_t field, uint8_t exponent)
{
    /* Beyond 2^40 us (12 days) nothing is a delay. */
    return AB_MIN(field, 1ULL << (40 - exponent)) * (1000ULL << exponent);
}

/* ab_quic_rtt_pto: the probe timeout before it is doubled (6.2.1): multiply by 2^count. For the application space of an
 * unconfirmed connection no timer is armed at all; that is the caller's to know. */
static inline uint64_t ab_quic_rtt_pto(const struct ab_quic_rtt *r)
{
    return r->smoothed_ns + AB_MAX(4 * r->var_ns, r->granularity_ns) + r->max_ack_delay_ns;
}

/* ab_quic_rtt_loss_delay: how long after it was sent a packet counts as lost once a later one is acknowledged: 9/8 of
 * the RTT (6.1.2). */
static inline uint64_t ab_quic_rtt_loss_delay(const struct ab_quic_rtt *r)
{
    uint64_t rtt = AB_MAX(r->latest_ns, r->smoothed_ns);

    return AB_MAX(rtt + rtt / 8, r->granularity_ns);
}

/* ab_quic_rtt_persistent: two ack-eliciting packets lost, sent further apart than this and nothing between
 * acknowledged: persistent congestion (7.6.1). Only packets sent after first_ns count. */
static inline uint64_t ab_quic_rtt_persistent(const struct ab_quic_rtt *r)
{
    return ab_quic_rtt_pto(r) * AB_QUIC_RTT_PERSISTENT;
}

#endif
