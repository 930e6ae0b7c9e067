/* Which connection is due next: a heap of four children a node over all connections.
 *
 * Deadlines move with nearly every packet, mostly into the future. So a connection's entry is only moved when its
 * deadline comes earlier than the entry says; one that has come too early is looked at, and put where it belongs then.
 */
#ifndef AB_QUIC_TIMER_H
#define AB_QUIC_TIMER_H

#include "base.h"

#define AB_QUIC_TIMER_NONE UINT32_MAX

struct ab_quic_timer {
    uint64_t when; /* ns */
    uint32_t conn; /* index */
    uint32_t pad;
};

struct ab_quic_timers {
    struct ab_quic_timer *heap;
    uint32_t *place; /* of each connection in the heap; AB_QUIC_TIMER_NONE: not in it */
    uint32_t count;
};

void ab_quic_timers_init(struct ab_quic_timers *t, void *memory, uint32_t connections);
uint64_t ab_quic_timers_bytes(uint32_t connections);

/* ab_quic_timer_set: due at `when` or earlier; UINT64_MAX takes it out. */
void ab_quic_timer_set(struct ab_quic_timers *t, uint32_t conn, uint64_t when);

/* ab_quic_timer_lower: due at `when` at the latest: the cheap way, for deadlines that mostly move away. */
static inline void ab_quic_timer_lower(struct ab_quic_timers *t, uint32_t conn, uint64_t when)
{
    uint32_t place = t->place[conn];

    if (ab_likely(place != AB_QUIC_TIMER_NONE && t->heap[place].when <= when))
        return;
    if (when != UINT64_MAX)
        ab_quic_timer_set(t, conn, when);
}

static inline uint64_t ab_quic_timers_next(const struct ab_quic_timers *t)
{
    return t->count ? t->heap[0].when : UINT64_MAX;
}

#endif
