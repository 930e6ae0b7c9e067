/* Record ring: what was captured, for any number of readers in other processes that cannot slow the writer.
 *
 * Fixed slots under one seqlock each. The writer never looks at a reader; a reader copies a slot and looks at its
 * sequence word before and after. Sequence numbers are dense, so a reader that was overtaken knows exactly how many it
 * lost.
 *
 *   writer   release fence | seq = 2n+1 | release fence | fill | seq = 2n+2 (release) | head = n+1 (release)
 *   reader   seq (acquire) == 2n+2 ? copy | acquire fence | seq == 2n+2 ? whole : overtaken */
#ifndef AB_RECORD_H
#define AB_RECORD_H

#include <string.h>

#include "base.h"
#include "eth.h"

struct ab_record_writer {
    struct ab_record_ring *ring; /* shared memory, NULL: no ring */
    uint8_t *slots;              /* first slot */
    uint64_t head;               /* our own copy: shared memory is written, never read back */
    uint64_t mask;               /* slots - 1 */
    uint32_t slot_bytes;         /* bytes of a slot */
    uint32_t room;               /* bytes of payload that fit */
};

/* ab_record_init takes a mapped ring of `bytes` bytes that the supervisor has laid out; checks the layout. */
int ab_record_init(struct ab_record_writer *w, void *memory, uint64_t bytes, struct ab_error *err);

/* ab_record_begin opens the next slot for filling; ab_record_end publishes it with `stored` bytes of `data`. */
static inline struct ab_record *ab_record_begin(struct ab_record_writer *w)
{
    struct ab_record *r = (struct ab_record *)(w->slots + (w->head & w->mask) * w->slot_bytes);

    /* A reader that goes by `head` alone takes the slot's former record for whole until it sees that head has come
     * here: so that is published before anything of the slot is touched. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&r->seq, 2 * w->head + 1, __ATOMIC_RELAXED);
    /* Publishes "being written" to readers before any byte of the new record can be seen. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return r;
}

static inline void ab_record_end(struct ab_record_writer *w, struct ab_record *r, const uint8_t *data, uint32_t len)
{
    uint32_t stored = AB_MIN(len, w->room);

    r->length = (uint16_t)len;
    r->stored = (uint16_t)stored;
    memcpy(r + 1, data, stored);
    /* Publishes the whole record to whoever reads its sequence word. */
    __atomic_store_n(&r->seq, 2 * w->head + 2, __ATOMIC_RELEASE);
    w->head++;
    /* Publishes "there is one more" to readers that wait. */
    __atomic_store_n(&w->ring->head, w->head, __ATOMIC_RELEASE);
}

#endif
