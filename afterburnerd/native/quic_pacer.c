#include "quic_pacer.h"

#define SHIFT 20 /* rate is bytes in 2^20 ns: the window has 33 bits and doubles at most, so 54 are used */

void ab_quic_pacer_init(struct ab_quic_pacer *p, bool enabled, uint64_t burst_bytes, uint64_t now)
{
    *p = (struct ab_quic_pacer){
        .enabled = enabled,
        .burst = burst_bytes ? burst_bytes : AB_QUIC_CC_INITIAL_WINDOW,
        .filled_ns = now,
    };
    p->tokens = p->burst;
}

void ab_quic_pacer_fill(struct ab_quic_pacer *p, uint64_t now)
{
    uint64_t elapsed = now - p->filled_ns, filled;

    p->filled_ns = now;
    if (elapsed >= p->fill_ns) {
        p->tokens = p->burst;
        p->rest = 0;
        return;
    }
    filled = elapsed * p->rate + p->rest; /* below burst << SHIFT, about */
    p->tokens += filled >> SHIFT;
    p->rest = filled & ((1ULL << SHIFT) - 1);
    if (p->tokens >= p->burst) {
        p->tokens = p->burst;
        p->rest = 0;
    }
}

void ab_quic_pacer_update(struct ab_quic_pacer *p, const struct ab_quic_cc *c, const struct ab_quic_rtt *rtt,
                          uint64_t now)
{
    uint64_t rate = 0;

    if (!p->enabled)
        return;
    if (rtt->sampled && rtt->smoothed_ns >= AB_QUIC_PACER_MIN_RTT_NS) {
        /* 7.7: a little more than the window for each round trip: 5/4; in slow start it doubles in that time. */
        rate = ab_quic_cc_slow_start(c) ? c->window * 2 : c->window + c->window / 4;
        rate = AB_MAX((rate << SHIFT) / rtt->smoothed_ns, 1);
    }
    if (rate == p->rate)
        return;
    p->burst = AB_MAX(p->burst, (uint64_t)AB_QUIC_PACER_BURST_PACKETS * c->mtu);
    if (p->rate == 0) { /* it did not pace: the bucket was never touched, or is of long ago */
        p->tokens = p->burst;
        p->rest = 0;
        p->filled_ns = now;
    } else if (now > p->filled_ns) {
        ab_quic_pacer_fill(p, now);
    }
    p->rate = rate;
    p->fill_ns = rate ? (p->burst << SHIFT) / rate : 0;
}

uint64_t ab_quic_pacer_when(const struct ab_quic_pacer *p, uint32_t bytes)
{
    uint64_t want = AB_MIN(bytes, p->burst);

    if (p->rate == 0 || p->tokens >= want)
        return 0;
    return p->filled_ns + (((want - p->tokens) << SHIFT) - p->rest + p->rate - 1) / p->rate;
}
