#include "quic_cc.h"

/* CUBIC: the window is cut to 0.7 of itself (RFC 9438 4.6), Reno's to 0.5 (kLossReductionFactor, RFC 9002 7.3.1). */
#define CUBIC_BETA_TENTHS 7
/* Reno-friendly growth by 3 * (1 - beta) / (1 + beta) = 9/17 of a packet for each round trip (RFC 9438 4.3). */
#define CUBIC_ALPHA_UP 9
#define CUBIC_ALPHA_DOWN 17
/* Time in the cubic function is counted in 2^-13 s (122 us): then the cube of 256 s still fits into 63 bits, and that
 * is longer than it takes to any window that we allow. */
#define CUBIC_SHIFT 13
#define CUBIC_UNITS_MAX ((1ULL << 21) - 1)
#define NS_PER_S 1000000000ULL

/* HyStart++ (RFC 9406 section 4.3) */
#define HYSTART_MIN_NS 4000000ULL
#define HYSTART_MAX_NS 16000000ULL
#define HYSTART_DIVISOR 8
#define HYSTART_SAMPLES 8
#define HYSTART_CSS_DIVISOR 4
#define HYSTART_CSS_ROUNDS 5

static uint64_t minimum(const struct ab_quic_cc *c)
{
    return (uint64_t)AB_QUIC_CC_MINIMUM_PACKETS * c->mtu;
}

static void set_window(struct ab_quic_cc *c, uint64_t window)
{
    c->window = AB_MIN(AB_MAX(window, minimum(c)), AB_QUIC_CC_WINDOW_MAX);
}

void ab_quic_cc_init(struct ab_quic_cc *c, enum ab_quic_cc_kind kind, bool hystart, uint64_t initial_window,
                     uint32_t mtu)
{
    *c = (struct ab_quic_cc){
        .mtu = mtu,
        .kind = (uint8_t)kind,
        .hystart = hystart,
        .ssthresh = UINT64_MAX,
        .round_min_ns = UINT64_MAX,
        .last_min_ns = UINT64_MAX,
    };
    set_window(c, initial_window ? initial_window : AB_QUIC_CC_INITIAL_WINDOW);
    c->initial = c->window;
}

void ab_quic_cc_set_mtu(struct ab_quic_cc *c, uint32_t mtu)
{
    c->mtu = mtu;
    set_window(c, c->window);
}

uint32_t ab_quic_cc_cube_root(uint64_t v)
{
    uint64_t root = 0;

    /* 2,642,245 is the cube root of 2^64: 22 bits. One at a time; it is asked for once in a recovery period. */
    for (uint32_t bit = 1U << 21; bit; bit >>= 1) {
        uint64_t with = root | bit;

        if (with <= 2642245 && with * with * with <= v)
            root = with;
    }
    return (uint32_t)root;
}

void ab_quic_cc_restart(struct ab_quic_cc *c, uint64_t pto_ns, uint64_t now)
{
    if (c->last_sent_ns == 0 || now - c->last_sent_ns <= pto_ns)
        return;
    set_window(c, AB_MIN(c->window, c->initial));
    c->epoch_ns = 0;
    c->starved_ns = 0;
}

static uint64_t cubic_units(uint64_t ns)
{
    return AB_MIN(AB_MIN(ns, 1ULL << 50) * (1ULL << CUBIC_SHIFT) / NS_PER_S, CUBIC_UNITS_MAX);
}

/* cubic_begin: the first growth of congestion avoidance: W_max, K and the estimate of Reno's window (RFC 9438 4.2). */
static void cubic_begin(struct ab_quic_cc *c, uint64_t now)
{
    c->epoch_ns = now;
    c->starved_ns = 0;
    c->w_est = c->window;
    c->partial = 0;
    c->cubic_rest = 0;
    c->origin = AB_MAX(c->w_max, c->window);
    /* K is the cube root of (W_max - cwnd) / C in packets and seconds, C being 0.4; in our units K^3 is 2^39 as large.
     * The window has 33 bits, times 5/2 and 2^29 makes 63. */
    c->k_ns = ab_quic_cc_cube_root(((c->origin - c->window) * 5 / 2 << 29) / c->mtu << 10) * NS_PER_S >> CUBIC_SHIFT;
}

/* cubic_at: W_cubic(t) = C * (t - K)^3 + W_max, in bytes, `ns` being t (RFC 9438 figure 1). */
static uint64_t cubic_at(const struct ab_quic_cc *c, uint64_t ns)
{
    uint64_t d = cubic_units(ns > c->k_ns ? ns - c->k_ns : c->k_ns - ns);
    /* d^3 * mtu * 0.4 / 2^39, in an order that stays below 2^64 for an mtu of up to 2^15 */
    uint64_t delta = ((d * d * d >> 14) * c->mtu / 5 * 2) >> (3 * CUBIC_SHIFT - 14);

    if (ns > c->k_ns)
        return c->origin + delta;
    return c->origin > delta ? c->origin - delta : 0;
}

static void cubic_grow(struct ab_quic_cc *c, uint64_t rtt_ns, uint64_t now)
{
    uint64_t t, target, step;

    if (c->epoch_ns == 0)
        cubic_begin(c, now);
    if (c->starved_ns) { /* RFC 9438 5.8: time without enough to send does not count */
        c->epoch_ns += now - c->starved_ns;
        c->starved_ns = 0;
    }
    /* 4.3: slower than Reno until it would be back where the window was cut, for ours was cut less; then as fast. */
    c->partial += c->acked * c->mtu * (c->w_est < c->prior ? CUBIC_ALPHA_UP : CUBIC_ALPHA_DOWN);
    step = c->partial / (CUBIC_ALPHA_DOWN * c->window);
    c->partial -= step * CUBIC_ALPHA_DOWN * c->window;
    c->w_est = AB_MIN(c->w_est + step, AB_QUIC_CC_WINDOW_MAX);

    t = now - c->epoch_ns;
    if (cubic_at(c, t) < c->w_est) { /* 4.3: the Reno-friendly region */
        set_window(c, AB_MAX(c->window, c->w_est));
        return;
    }
    target = cubic_at(c, t + rtt_ns);
    target = AB_MIN(AB_MAX(target, c->window), c->window + c->window / 2);
    c->cubic_rest += (target - c->window) * c->acked;
    step = c->cubic_rest / c->window;
    c->cubic_rest -= step * c->window;
    set_window(c, c->window + step);
}

static void reno_grow(struct ab_quic_cc *c)
{
    c->partial += c->acked;
    while (c->partial >= c->window) { /* a window of bytes for each packet more (RFC 9002 7.3.3) */
        c->partial -= c->window;
        set_window(c, c->window + c->mtu);
    }
}

/* slow_start: the window grows by what was acknowledged, a quarter of it in conservative slow start; what lies beyond
 * ssthresh is left in `acked`. */
static void slow_start(struct ab_quic_cc *c)
{
    uint64_t growth = c->css_base_ns ? c->acked / HYSTART_CSS_DIVISOR : c->acked;
    uint64_t room = c->ssthresh - c->window;

    set_window(c, c->window + AB_MIN(growth, room));
    c->acked = growth > room ? growth - room : 0;
}

static void grow(struct ab_quic_cc *c, const struct ab_quic_rtt *rtt, uint64_t now)
{
    if (c->acked && ab_quic_cc_slow_start(c))
        slow_start(c);
    if (c->acked == 0) {
        if (c->epoch_ns && c->starved_ns == 0 && !c->in_recovery && now > c->full_ns)
            c->starved_ns = now;
        return;
    }
    if (c->kind == AB_QUIC_CUBIC)
        cubic_grow(c, rtt->smoothed_ns, now);
    else
        reno_grow(c);
    c->acked = 0;
}

/* hystart: RFC 9406 section 4.2. A round ends with the acknowledgement of the first packet sent in it. */
static void hystart(struct ab_quic_cc *c, const struct ab_quic_rtt *rtt, uint64_t largest_sent_ns, uint64_t now)
{
    uint64_t threshold;

    if (largest_sent_ns >= c->round_ns) {
        c->last_min_ns = c->round_min_ns;
        c->round_min_ns = UINT64_MAX;
        c->round_samples = 0;
        c->round_ns = now;
        if (c->css_base_ns && ++c->css_rounds > HYSTART_CSS_ROUNDS) { /* the first is the one it was entered in */
            c->ssthresh = c->window;
            c->css_base_ns = 0;
            return;
        }
    }
    c->round_min_ns = AB_MIN(c->round_min_ns, rtt->latest_ns);
    if (++c->round_samples < HYSTART_SAMPLES)
        return;
    if (c->css_base_ns) {
        if (c->round_min_ns < c->css_base_ns) /* the delay was a passing one */
            c->css_base_ns = 0;
        return;
    }
    threshold = AB_MAX(AB_MIN(c->last_min_ns / HYSTART_DIVISOR, HYSTART_MAX_NS), HYSTART_MIN_NS);
    if (c->last_min_ns != UINT64_MAX && c->round_min_ns >= c->last_min_ns + threshold) {
        c->css_base_ns = c->round_min_ns;
        c->css_rounds = 0;
    }
}

/* reduce: a congestion event (RFC 9002 7.3.2, RFC 9438 4.6 and 4.7). */
static void reduce(struct ab_quic_cc *c, uint64_t now)
{
    c->events++;
    c->recovery_ns = now;
    c->in_recovery = true;
    c->partial = 0;
    c->css_base_ns = 0;
    if (c->kind == AB_QUIC_CUBIC) {
        c->epoch_ns = 0;
        c->starved_ns = 0;
        c->prior = c->window;
        /* Fast convergence: below the former maximum we make room for a newcomer: (1 + beta) / 2 of the window. */
        c->w_max = c->window < c->w_max ? c->window * (10 + CUBIC_BETA_TENTHS) / 20 : c->window;
        set_window(c, c->window * CUBIC_BETA_TENTHS / 10);
    } else {
        set_window(c, c->window / 2);
    }
    c->ssthresh = c->window;
}

/* collapse: persistent congestion (RFC 9002 7.6.2). The next congestion avoidance begins without a memory (RFC
 * 9438 4.8). */
static void collapse(struct ab_quic_cc *c)
{
    set_window(c, 0);
    c->recovery_ns = 0;
    c->in_recovery = false;
    c->epoch_ns = 0;
    c->w_max = 0;
    c->prior = 0;
}

enum ab_quic_cc_event ab_quic_cc_update(struct ab_quic_cc *c, const struct ab_quic_rtt *rtt, uint64_t largest_sent_ns,
                                        bool ce, bool persistent, uint64_t now)
{
    uint64_t congested_ns = ce ? AB_MAX(c->lost_sent_ns, largest_sent_ns) : c->lost_sent_ns;
    enum ab_quic_cc_event event = AB_QUIC_CC_NOTHING;

    c->lost_sent_ns = 0;
    if (ab_unlikely(congested_ns > c->recovery_ns)) {
        reduce(c, now);
        event = AB_QUIC_CC_REDUCED;
    }
    if (ab_unlikely(persistent)) {
        collapse(c);
        event = AB_QUIC_CC_COLLAPSED;
    }
    if (event != AB_QUIC_CC_NOTHING) {
        c->acked = 0; /* what came with it was sent before the recovery period */
        return event;
    }
    if (largest_sent_ns > c->recovery_ns)
        c->in_recovery = false;
    if (c->hystart && c->ssthresh == UINT64_MAX && largest_sent_ns)
        hystart(c, rtt, largest_sent_ns, now);
    if (largest_sent_ns)
        grow(c, rtt, now);
    return event;
}
