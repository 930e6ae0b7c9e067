/* Pacing: how many packets are due now, and how to wait until the next one is. */
#ifndef AB_LAB_PACE_H
#define AB_LAB_PACE_H

#include "options.h"

#define AB_LAB_PACE_GRACE_NS 20000000 /* to send what was due at the end and came late, because we were off the CPU */

struct ab_lab_pace {
    uint64_t begin; /* CLOCK_MONOTONIC ns */
    uint64_t end;   /* UINT64_MAX: no end */
    uint64_t rate;  /* packets a second, 0: no limit */
    uint64_t count; /* stop after so many */
    uint64_t all;   /* a rate and a duration name a number: never more than that */
};

static inline void ab_lab_pace_init(struct ab_lab_pace *p, const struct ab_lab_options *o, uint64_t now)
{
    p->begin = now;
    p->end = o->duration_ns ? now + o->duration_ns : UINT64_MAX;
    p->rate = o->rate;
    p->count = o->count ? o->count : UINT64_MAX;
    p->all =
        o->rate && o->duration_ns ? (uint64_t)((unsigned __int128)o->duration_ns * o->rate / 1000000000u) : UINT64_MAX;
}

static inline bool ab_lab_pace_over(const struct ab_lab_pace *p, uint64_t sent, uint64_t now)
{
    if (sent >= p->count)
        return true;
    return now >= p->end && (!p->rate || sent >= p->all || now - p->end > AB_LAB_PACE_GRACE_NS);
}

/* ab_lab_pace_due: packets that should have been sent by now and were not. The first is due at once. */
static inline uint64_t ab_lab_pace_due(const struct ab_lab_pace *p, uint64_t sent, uint64_t now)
{
    uint64_t should = AB_MIN(p->count, p->all);

    if (p->rate)
        should = AB_MIN(should, 1 + (uint64_t)((unsigned __int128)(now - p->begin) * p->rate / 1000000000u));
    return should > sent ? should - sent : 0;
}

/* ab_lab_pace_at: when packet `sent` is due; now where there is no rate. A probe carries this clock and not that of the
 * moment in which its sender came to it: a sender that was kept from its CPU would hide that all its probes waited, and
 * one that then sends a hundred at once would be blamed for the last one's wait alone. */
static inline uint64_t ab_lab_pace_at(const struct ab_lab_pace *p, uint64_t sent, uint64_t now)
{
    return p->rate ? p->begin + (uint64_t)((unsigned __int128)sent * 1000000000u / p->rate) : now;
}

/* ab_lab_pace_wait sleeps while the next packet is far off and spins when it is near: sleeping wakes late by up to some
 * 60 us (the default timer slack and the way out of idle). */
static inline void ab_lab_pace_wait(const struct ab_lab_pace *p, uint64_t sent, uint64_t now)
{
    uint64_t next = p->begin + (uint64_t)((unsigned __int128)sent * 1000000000u / (p->rate ? p->rate : 1));

    next = AB_MIN(next, p->end);
    if (p->rate && next > now + 200000) {
        uint64_t until = AB_MIN(next - 100000, now + 100000000); /* at most 100 ms: a signal or a progress line */
        struct timespec ts = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
    } else {
        ab_cpu_relax();
    }
}

#endif
