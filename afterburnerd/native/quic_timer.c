#include <string.h>

#include "quic_timer.h"

#define CHILDREN 4

uint64_t ab_quic_timers_bytes(uint32_t connections)
{
    return connections * (sizeof(struct ab_quic_timer) + sizeof(uint32_t));
}

void ab_quic_timers_init(struct ab_quic_timers *t, void *memory, uint32_t connections)
{
    t->heap = memory;
    t->place = (uint32_t *)(t->heap + connections);
    t->count = 0;
    memset(t->place, 0xff, connections * sizeof(uint32_t));
}

static void put(struct ab_quic_timers *t, uint32_t place, struct ab_quic_timer entry)
{
    t->heap[place] = entry;
    t->place[entry.conn] = place;
}

static void rise(struct ab_quic_timers *t, uint32_t place, struct ab_quic_timer entry)
{
    while (place) {
        uint32_t parent = (place - 1) / CHILDREN;

        if (t->heap[parent].when <= entry.when)
            break;
        put(t, place, t->heap[parent]);
        place = parent;
    }
    put(t, place, entry);
}

static void sink(struct ab_quic_timers *t, uint32_t place, struct ab_quic_timer entry)
{
    for (;;) {
        uint32_t first = place * CHILDREN + 1, best = first;

        if (first >= t->count)
            break;
        for (uint32_t i = first + 1; i < AB_MIN(first + CHILDREN, t->count); i++)
            if (t->heap[i].when < t->heap[best].when)
                best = i;
        if (t->heap[best].when >= entry.when)
            break;
        put(t, place, t->heap[best]);
        place = best;
    }
    put(t, place, entry);
}

void ab_quic_timer_set(struct ab_quic_timers *t, uint32_t conn, uint64_t when)
{
    uint32_t place = t->place[conn];
    struct ab_quic_timer entry = {.when = when, .conn = conn};

    if (when == UINT64_MAX) {
        struct ab_quic_timer last;

        if (place == AB_QUIC_TIMER_NONE)
            return;
        t->place[conn] = AB_QUIC_TIMER_NONE;
        last = t->heap[--t->count];
        if (place == t->count)
            return;
        if (place && t->heap[(place - 1) / CHILDREN].when > last.when)
            rise(t, place, last);
        else
            sink(t, place, last);
        return;
    }
    if (place == AB_QUIC_TIMER_NONE)
        rise(t, t->count++, entry);
    else if (when < t->heap[place].when)
        rise(t, place, entry);
    else
        sink(t, place, entry);
}
