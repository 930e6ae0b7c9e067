#include <string.h>

#include "quic_stream.h"

void ab_quic_idset_slide(struct ab_quic_idset *s)
{
    for (;;) {
        uint64_t *word = &s->bits[(s->base & s->mask) / 64];
        uint32_t bit = s->base % 64, run;

        if (~*word >> bit == 0)
            run = 64 - bit; /* all ones up to the end of the word */
        else
            run = (uint32_t)__builtin_ctzll(~*word >> bit);
        if (run == 0)
            return;
        /* The places that were passed stand for streams one window ahead from now on. */
        *word &= ~((run == 64 ? ~0ULL : (1ULL << run) - 1) << bit);
        s->base += run;
    }
}

static uint32_t pow2_at_least(uint32_t n)
{
    uint32_t p = 64;

    while (p < n)
        p *= 2;
    return p;
}

static uint64_t object_room(uint32_t room)
{
    return room + room / 8;
}

uint64_t ab_quic_streams_bytes(uint32_t total, uint32_t room)
{
    return (uint64_t)total * (sizeof(struct ab_quic_stream) + object_room(room)) +
           pow2_at_least(2 * total) * sizeof(uint32_t) + AB_CACHELINE;
}

void ab_quic_streams_init(struct ab_quic_streams *s, void *memory, uint32_t total, uint32_t room, uint64_t seed)
{
    uint8_t *p = memory;

    s->bucket_mask = pow2_at_least(2 * total) - 1;
    s->total = total;
    s->used = 0;
    s->room = room;
    s->hash_seed = seed | 1;
    s->objects = (struct ab_quic_stream *)p;
    p += (uint64_t)total * sizeof(struct ab_quic_stream);
    for (uint32_t i = 0; i < total; i++) {
        s->objects[i].hash_next = i + 1 < total ? i + 1 : AB_QUIC_NIL;
        s->objects[i].present = (uint64_t *)p;
        s->objects[i].buffer = p + room / 8;
        p += object_room(room);
    }
    s->free = total ? 0 : AB_QUIC_NIL;
    s->buckets = (uint32_t *)p;
    memset(s->buckets, 0xff, (s->bucket_mask + 1) * sizeof(uint32_t));
}

static uint32_t *bucket(const struct ab_quic_streams *s, uint32_t conn, uint64_t id)
{
    /* A multiplication by a secret odd number: a peer that chooses IDs cannot choose buckets. */
    uint64_t h = (id + ((uint64_t)conn << 40)) * (s->hash_seed | 0x9e3779b97f4a7c15ULL);

    h ^= h >> 32;
    return &s->buckets[(h * 0xd6e8feb86659fd93ULL >> 32) & s->bucket_mask];
}

uint32_t ab_quic_stream_find(const struct ab_quic_streams *s, uint32_t conn, uint64_t id)
{
    uint32_t i = *bucket(s, conn, id);

    while (i != AB_QUIC_NIL && (s->objects[i].id != id || s->objects[i].conn != conn))
        i = s->objects[i].hash_next;
    return i;
}

uint32_t ab_quic_stream_make(struct ab_quic_streams *s, uint32_t conn, uint64_t id)
{
    uint32_t i = s->free, *b;
    struct ab_quic_stream *t;
    uint8_t *buffer;
    uint64_t *present;

    if (i == AB_QUIC_NIL)
        return AB_QUIC_NIL;
    t = &s->objects[i];
    s->free = t->hash_next;
    s->used++;
    buffer = t->buffer;
    present = t->present;
    memset(t, 0, sizeof(*t));
    t->buffer = buffer;
    t->present = present;
    t->id = id;
    t->conn = conn;
    t->next = t->prev = t->send_next = AB_QUIC_NIL;
    t->rx_final = AB_QUIC_NO_SIZE;
    ab_quic_queue_init(&t->queue);
    b = bucket(s, conn, id);
    t->hash_next = *b;
    *b = i;
    return i;
}

void ab_quic_stream_free(struct ab_quic_streams *s, uint32_t index)
{
    struct ab_quic_stream *t = &s->objects[index];
    uint32_t *link = bucket(s, t->conn, t->id);

    while (*link != index)
        link = &s->objects[*link].hash_next;
    *link = t->hash_next;
    /* The next owner finds the bits cleared: there may be some, where a stream was reset with bytes held. */
    if (t->rx_held)
        memset(t->present, 0, s->room / 8);
    t->hash_next = s->free;
    s->free = index;
    s->used--;
}

/* Calls for each word of the bitmap that [from, to) touches: its index, and which of its bits. */
#define FOR_EACH_WORD(s, from, to, word, bits)                                                                         \
    for (uint64_t at_ = (from), word, bits, n_;                                                                        \
         at_ < (to) && (n_ = AB_MIN(64 - at_ % 64, (to)-at_), word = (at_ & ((s)->room - 1)) / 64,                     \
                       bits = (n_ == 64 ? ~0ULL : (1ULL << n_) - 1) << (at_ % 64), true);                              \
         at_ += n_)

void ab_quic_stream_store(const struct ab_quic_streams *s, struct ab_quic_stream *t, uint64_t offset,
                          const uint8_t *data, uint32_t len)
{
    uint32_t at = (uint32_t)(offset & (s->room - 1)), first = AB_MIN(len, s->room - at);

    /* Bytes that are there already are written over: a peer that says two different things of one byte gets either. */
    memcpy(t->buffer + at, data, first);
    memcpy(t->buffer, data + first, len - first);
    FOR_EACH_WORD(s, offset, offset + len, word, bits)
    {
        t->rx_held += (uint32_t)__builtin_popcountll(bits & ~t->present[word]);
        t->present[word] |= bits;
    }
}

uint32_t ab_quic_stream_ready(const struct ab_quic_streams *s, const struct ab_quic_stream *t, const uint8_t **data)
{
    uint32_t at = (uint32_t)(t->rx_told & (s->room - 1)), len = 0, end = s->room - at;

    *data = t->buffer + at;
    if (t->rx_held == 0)
        return 0;
    while (len < end) {
        uint32_t bit = (at + len) % 64, run = 64 - bit;
        uint64_t missing = ~t->present[(at + len) / 64] >> bit;

        if (missing) {
            uint32_t n = (uint32_t)__builtin_ctzll(missing);

            if (n < run)
                return AB_MIN(len + n, end);
        }
        len += run;
    }
    return end;
}

void ab_quic_stream_forget(const struct ab_quic_streams *s, struct ab_quic_stream *t, uint64_t from, uint64_t to)
{
    if (t->rx_held == 0)
        return;
    FOR_EACH_WORD(s, from, to, word, bits)
    {
        t->rx_held -= (uint32_t)__builtin_popcountll(bits & t->present[word]);
        t->present[word] &= ~bits;
    }
}
