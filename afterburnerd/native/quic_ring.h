/* Rings of commands and events between supervisor and worker: one producer, one consumer, fixed slots, no lock, no
 * call.
 *
 *   supervisor --[ commands ]--> worker      ab_quic_ring_take: copied out once, then judged; the slot is wiped if it
 * held secrets; only then is it the producer's again supervisor <--[ events ]---- worker      ab_quic_ring_put: false
 * when the supervisor is behind; nothing is overwritten
 *
 * `head` counts slots ever written, `tail` slots ever consumed, each on cache lines of its own and with one writer:
 *
 *   producer   tail (acquire) leaves room | fill the slot | head + 1 (release: publishes the slot)
 *   consumer   head (acquire) is ahead | copy the slot, wipe it | tail + 1 (release: gives the slot back)
 *
 * The memory is an anonymous memfd, sealed against being cut short; nobody without its descriptor can find it, for it
 * carries keys. The other side is not believed: what it can change is copied first, counts out of bounds end the ring's
 * use. */
#ifndef AB_QUIC_RING_H
#define AB_QUIC_RING_H

#include "base.h"

#define AB_QUIC_SLOT_MAX 8192 /* bytes of a slot at most */

/* ab_quic_ring_end: one side's view of a ring. */
struct ab_quic_ring_end {
    struct ab_quic_ring *ring; /* shared memory, NULL: none */
    uint8_t *slots;            /* first slot */
    uint64_t mask;             /* slots - 1 */
    uint32_t slot_bytes;
    bool broken;       /* the other side's count was impossible: the ring is not used any more */
    uint64_t position; /* our own count: `head` of the producer, `tail` of the consumer; written, never read back */
    uint64_t seen;     /* the other side's, as last read */
    _Alignas(AB_CACHELINE) uint8_t copy[AB_QUIC_SLOT_MAX]; /* consumer: the slot taken last */
};

/* ab_quic_ring_open takes a mapped ring that the supervisor has laid out; checks the layout. */
int ab_quic_ring_open(struct ab_quic_ring_end *e, void *memory, uint64_t bytes, uint32_t slot_bytes, bool producer,
                      struct ab_error *err);

/* ab_quic_ring_room: slots that the producer may fill now. The consumer's line is read only where fewer than `wanted`
 * are free by what was seen of it last, so an answer of `wanted` or more may be too low. */
uint64_t ab_quic_ring_room(struct ab_quic_ring_end *e, uint64_t wanted);

/* ab_quic_ring_take: the next command with its body (valid until the next call), or false. A body that is said to be
 * longer than a slot comes with length 0 and kind NONE. */
bool ab_quic_ring_take(struct ab_quic_ring_end *e, struct ab_quic_command *head, uint8_t **body);

/* ab_quic_ring_forget wipes what the latest take left in this process. */
void ab_quic_ring_forget(struct ab_quic_ring_end *e, const struct ab_quic_command *head);

/* ab_quic_ring_put: false when there is no room or the body is too long for a slot. */
bool ab_quic_ring_put(struct ab_quic_ring_end *e, const struct ab_quic_event *head, const void *body);

/* ab_quic_ring_doze: the consumer is about to sleep, or (`asleep` false) has woken. False: something has come, do not
 * sleep. */
bool ab_quic_ring_doze(struct ab_quic_ring_end *e, bool asleep);

/* ab_quic_ring_wakes: the producer has put something: is the consumer to be woken by its bell? True once for each time
 * that it went to sleep. */
bool ab_quic_ring_wakes(struct ab_quic_ring_end *e);

/* Is there anything to take? One load; the line is the producer's and moves only when it writes. */
static inline bool ab_quic_ring_ready(const struct ab_quic_ring_end *e)
{
    return e->ring && __atomic_load_n(&e->ring->head, __ATOMIC_RELAXED) != e->position && !e->broken;
}

#endif
