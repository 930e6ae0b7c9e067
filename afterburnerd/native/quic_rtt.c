#include "quic_rtt.h"

void ab_quic_rtt_init(struct ab_quic_rtt *r, uint64_t initial_ns, uint64_t max_ack_delay_ns)
{
    *r = (struct ab_quic_rtt){
        .smoothed_ns = initial_ns ? initial_ns : AB_QUIC_RTT_INITIAL_NS,
        .max_ack_delay_ns = max_ack_delay_ns,
        .granularity_ns = AB_QUIC_RTT_GRANULARITY_NS,
    };
    r->var_ns = r->smoothed_ns / 2; /* RFC 9002 5.3 */
}

void ab_quic_rtt_sample(struct ab_quic_rtt *r, uint64_t latest_ns, uint64_t ack_delay_ns, bool confirmed, uint64_t now)
{
    uint64_t adjusted, deviation;

    latest_ns = AB_MAX(latest_ns, 1); /* 0 means that there is none */
    r->latest_ns = latest_ns;
    if (r->min_ns == 0 || latest_ns < r->min_ns)
        r->min_ns = latest_ns; /* 5.2: without regard to the delay */
    if (!r->sampled) {
        r->sampled = true;
        r->first_ns = now;
        r->smoothed_ns = latest_ns;
        r->var_ns = latest_ns / 2;
        return;
    }
    if (confirmed)
        ack_delay_ns = AB_MIN(ack_delay_ns, r->max_ack_delay_ns);
    /* 5.3: a delay that would take the sample below the minimum is not believed. */
    adjusted = latest_ns >= r->min_ns + ack_delay_ns ? latest_ns - ack_delay_ns : latest_ns;
    deviation = r->smoothed_ns > adjusted ? r->smoothed_ns - adjusted : adjusted - r->smoothed_ns;
    r->var_ns = r->var_ns - r->var_ns / 4 + deviation / 4;
    r->smoothed_ns = r->smoothed_ns - r->smoothed_ns / 8 + adjusted / 8;
}

void ab_quic_rtt_restart_min(struct ab_quic_rtt *r)
{
    r->min_ns = 0;
}
