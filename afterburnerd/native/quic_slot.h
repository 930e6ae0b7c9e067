/* Data on its way to a peer: slots, and the queues that they stand in.
 *
 * A slot holds what becomes exactly one frame: a whole transaction, a piece of a longer message, a DATAGRAM, a piece of
 * CRYPTO, or the bytes of a control frame that must arrive. It is in one place at a time:
 *
 *   free --alloc--> queue of its connection or stream --framed--> chain of a sent packet --acknowledged--> free
 *                     ^                                              |
 *                     '---------------------- lost ------------------'
 *
 * `next` is the only link that is needed, for no slot is in two places. A message of several slots has a head, the
 * first one, which counts how many of them are not acknowledged; when none is left the message's fate is told. Free
 * slots are a stack: the one given out next is the one touched last, still warm in the cache. */
#ifndef AB_QUIC_SLOT_H
#define AB_QUIC_SLOT_H

#include "base.h"

#define AB_QUIC_NIL UINT32_MAX       /* no slot, no object, no block */
#define AB_QUIC_NO_STREAM UINT64_MAX /* a transaction whose stream ID is not given out yet */

enum ab_quic_slot_kind {
    AB_QUIC_SLOT_UNI,      /* a transaction, or a piece of one: no stream object behind it */
    AB_QUIC_SLOT_STREAM,   /* a piece of a stream that has an object */
    AB_QUIC_SLOT_DATAGRAM, /* repeated by nobody */
    AB_QUIC_SLOT_CRYPTO,
    AB_QUIC_SLOT_CONTROL, /* `data` is the frame itself */
    AB_QUIC_SLOT_EVENT,   /* waits for the sink: struct ab_quic_event, then its body */
};

#define AB_QUIC_SLOT_FIN 1  /* ends its stream */
#define AB_QUIC_SLOT_LAST 2 /* last piece of its message */

struct ab_quic_slot {
    uint32_t next;       /* in its queue or chain */
    uint32_t head;       /* first slot of the message; itself where it is the only one */
    uint32_t parts;      /* head: slots of the message that are not acknowledged */
    uint16_t len;        /* bytes of data */
    uint8_t kind;        /* enum ab_quic_slot_kind */
    uint8_t flags;       /* AB_QUIC_SLOT_* */
    uint64_t stream;     /* stream ID, or AB_QUIC_NO_STREAM */
    uint64_t offset;     /* of the first byte in its stream */
    uint64_t token;      /* head: comes back with the fate */
    uint64_t first_sent; /* head: when its first byte was first sent, ns; 0 never */
    uint64_t expires;    /* head: ns, 0 never */
    uint32_t object;     /* SLOT_STREAM: index of the stream's object */
    uint8_t outcome;     /* head in the queue of untold fates: enum ab_quic_outcome */
    uint8_t pad[3];
};

_Static_assert(sizeof(struct ab_quic_slot) == AB_CACHELINE, "the head of a slot is one cache line");

struct ab_quic_slots {
    uint8_t *memory;
    uint64_t stride; /* bytes from one slot to the next */
    uint32_t room;   /* bytes of data of a slot */
    uint32_t total;  /* slots */
    uint32_t used;
    uint32_t free;  /* top of the stack */
    uint32_t fresh; /* slots from here on were never used: touched only when needed */
};

/* A queue of slots, first in first out. */
struct ab_quic_queue {
    uint32_t head, tail;
    uint32_t count;
};

static inline struct ab_quic_slot *ab_quic_slot_at(const struct ab_quic_slots *s, uint32_t index)
{
    return (struct ab_quic_slot *)(s->memory + (uint64_t)index * s->stride);
}

static inline uint8_t *ab_quic_slot_data(struct ab_quic_slot *slot)
{
    return (uint8_t *)(slot + 1);
}

static inline uint32_t ab_quic_slots_left(const struct ab_quic_slots *s)
{
    return s->total - s->used;
}

/* ab_quic_slot_fetch: the slot is soon read, or written, with `len` bytes of data. Where the sender's work and the
 * kernel's copies share a cache, it has left it by then. NIL is an address like any other to a prefetch. */
static inline void ab_quic_slot_fetch(const struct ab_quic_slots *s, uint32_t index, uint32_t len)
{
    const uint8_t *slot = (const uint8_t *)ab_quic_slot_at(s, index);

    for (uint32_t at = 0; at < sizeof(struct ab_quic_slot) + len; at += AB_CACHELINE)
        __builtin_prefetch(slot + at);
}

/* ab_quic_slot_alloc: AB_QUIC_NIL where none is free. Only `next` is set. */
static inline uint32_t ab_quic_slot_alloc(struct ab_quic_slots *s)
{
    uint32_t index = s->free;

    if (ab_likely(index != AB_QUIC_NIL))
        s->free = ab_quic_slot_at(s, index)->next;
    else if (s->fresh < s->total)
        index = s->fresh++;
    else
        return AB_QUIC_NIL;
    s->used++;
    ab_quic_slot_at(s, index)->next = AB_QUIC_NIL;
    return index;
}

static inline void ab_quic_slot_free(struct ab_quic_slots *s, uint32_t index)
{
    ab_quic_slot_at(s, index)->next = s->free;
    s->free = index;
    s->used--;
}

static inline void ab_quic_queue_init(struct ab_quic_queue *queue)
{
    *queue = (struct ab_quic_queue){AB_QUIC_NIL, AB_QUIC_NIL, 0};
}

static inline void ab_quic_queue_push(const struct ab_quic_slots *s, struct ab_quic_queue *queue, uint32_t index)
{
    ab_quic_slot_at(s, index)->next = AB_QUIC_NIL;
    if (queue->tail == AB_QUIC_NIL)
        queue->head = index;
    else
        ab_quic_slot_at(s, queue->tail)->next = index;
    queue->tail = index;
    queue->count++;
}

/* ab_quic_queue_pop: the queue must not be empty. */
static inline uint32_t ab_quic_queue_pop(const struct ab_quic_slots *s, struct ab_quic_queue *queue)
{
    uint32_t index = queue->head;

    queue->head = ab_quic_slot_at(s, index)->next;
    if (queue->head == AB_QUIC_NIL)
        queue->tail = AB_QUIC_NIL;
    queue->count--;
    return index;
}

/* ab_quic_slots_bytes: memory that `total` slots with `room` bytes take. ab_quic_slots_init: on that much memory,
 * aligned to a cache line. */
uint64_t ab_quic_slots_bytes(uint32_t total, uint32_t room);
void ab_quic_slots_init(struct ab_quic_slots *s, void *memory, uint32_t total, uint32_t room);

/* ab_quic_slot_split: cuts a queued slot that is too long for the frame it could have: it keeps `keep` bytes, the rest
 * goes into a new slot right behind it in `queue`. False: no slot is free. */
bool ab_quic_slot_split(struct ab_quic_slots *s, struct ab_quic_queue *queue, uint32_t index, uint32_t keep);

#endif
