/* The table of connections and the bursts: what the outside calls. Adoption is in quic_adopt.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quic_build.h"

/* --- numbers ------------------------------------------------------------------------------------------------------ */

/* splitmix64 (Steele, Lea, Flood 2014) over a secret seed. What it makes is never secret for long: skipped packet
 * numbers and path challenges, each seen by the peer alone, and only after it matters. */
uint64_t ab_quic_random(struct ab_quic *q)
{
    uint64_t z = (q->random += 0x9e3779b97f4a7c15ULL);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* --- tables: open addressing, linear probing, no tombstones ------------------------------------------------------- */

static uint64_t home(const struct ab_quic_table *t, uint64_t key)
{
    uint64_t h = (key ^ t->seed) * 0x9e3779b97f4a7c15ULL;

    return (h ^ (h >> 29)) & t->mask;
}

const struct ab_quic_hashed *ab_quic_table_get(const struct ab_quic_table *t, uint64_t key)
{
    for (uint64_t i = home(t, key);; i = (i + 1) & t->mask) {
        const struct ab_quic_hashed *e = &t->entries[i];

        if (e->conn == AB_QUIC_NIL)
            return NULL;
        if (e->key == key)
            return e;
    }
}

void ab_quic_table_put(struct ab_quic_table *t, uint64_t key, uint32_t conn, uint32_t cid)
{
    uint64_t i = home(t, key);

    while (t->entries[i].conn != AB_QUIC_NIL)
        i = (i + 1) & t->mask;
    t->entries[i] = (struct ab_quic_hashed){key, conn, cid};
}

void ab_quic_table_del(struct ab_quic_table *t, uint64_t key)
{
    uint64_t i = home(t, key), j;

    while (t->entries[i].key != key || t->entries[i].conn == AB_QUIC_NIL) {
        if (t->entries[i].conn == AB_QUIC_NIL)
            return;
        i = (i + 1) & t->mask;
    }
    /* Whoever stands behind and would be found no more moves up. */
    for (j = (i + 1) & t->mask; t->entries[j].conn != AB_QUIC_NIL; j = (j + 1) & t->mask) {
        uint64_t at = home(t, t->entries[j].key);

        if (((j - at) & t->mask) >= ((j - i) & t->mask)) {
            t->entries[i] = t->entries[j];
            i = j;
        }
    }
    t->entries[i].conn = AB_QUIC_NIL;
}

/* --- set-up ------------------------------------------------------------------------------------------------------- */

#define NOTIFY_ROUNDS 4 /* of telling and sending in one turn */
#define EXPIRE_TURN 16  /* deadlines looked at in a turn: 1 to 2 us each, for their connections are cold */
#define DEFAULT(field, value)                                                                                          \
    do {                                                                                                               \
        if ((field) == 0)                                                                                              \
            (field) = (value);                                                                                         \
    } while (0)

static bool pow2(uint32_t v)
{
    return v && (v & (v - 1)) == 0;
}

static int check(struct ab_quic_config *c, struct ab_error *err)
{
    DEFAULT(c->connections, 64);
    DEFAULT(c->messages, 16384);
    DEFAULT(c->message_bytes, 1280);
    DEFAULT(c->packets, 65536);
    DEFAULT(c->streams, 256);
    DEFAULT(c->stream_bytes, 16384);
    DEFAULT(c->uni_window, 16384);
    DEFAULT(c->bidi_window, 128);
    DEFAULT(c->burst_packets, 16);
    DEFAULT(c->ack_threshold, 32);
    DEFAULT(c->initial_window, AB_QUIC_CC_INITIAL_WINDOW);
    if (c->connections > 1 << 20 || c->messages > 1 << 24 || c->messages < 256)
        return ab_fail(err, AB_EINVAL, "QUIC engine: connections %u (at most 1048576), messages %u (256 to 16777216)",
                       c->connections, c->messages);
    /* Every frame that must arrive has to fit a slot: NEW_CONNECTION_ID, and 1 KiB of CRYPTO. */
    if (c->message_bytes < 1100 || c->message_bytes > 16384)
        return ab_fail(err, AB_EINVAL, "QUIC engine: message_bytes %u: 1100 to 16384", c->message_bytes);
    if (c->packets / AB_QUIC_BLOCK < c->connections || c->packets / AB_QUIC_BLOCK >= AB_QUIC_NO_BLOCK)
        return ab_fail(err, AB_EINVAL, "QUIC engine: packets %u: at least 64 a connection, at most 4194176",
                       c->packets);
    if (!pow2(c->stream_bytes) || c->stream_bytes < 4096 || c->stream_bytes > 1 << 24)
        return ab_fail(err, AB_EINVAL, "QUIC engine: stream_bytes %u: a power of two, 4096 to 16777216",
                       c->stream_bytes);
    if (!pow2(c->uni_window) || c->uni_window < 64 || !pow2(c->bidi_window) || c->bidi_window < 64)
        return ab_fail(err, AB_EINVAL, "QUIC engine: uni_window %u, bidi_window %u: powers of two, at least 64",
                       c->uni_window, c->bidi_window);
    return 0;
}

/* Hands out pieces of one region; measures it while `base` is NULL. */
struct arena {
    uint8_t *base;
    uint64_t used;
};

static void *take(struct arena *a, uint64_t bytes)
{
    void *p = a->base ? a->base + a->used : NULL;

    a->used += (bytes + AB_CACHELINE - 1) / AB_CACHELINE * AB_CACHELINE;
    return p;
}

static void table_init(struct ab_quic_table *t, struct arena *a, uint64_t entries, uint64_t seed)
{
    uint64_t size = 64;

    while (size < entries * 2)
        size *= 2;
    t->entries = take(a, size * sizeof(struct ab_quic_hashed));
    t->mask = size - 1;
    t->seed = seed;
    for (uint64_t i = 0; t->entries && i < size; i++)
        t->entries[i].conn = AB_QUIC_NIL;
}

static void lay_out(struct ab_quic *q, struct arena *a)
{
    const struct ab_quic_config *c = &q->config;
    uint64_t words = (c->uni_window + c->bidi_window) / 64;
    uint64_t *bits;
    void *p;

    /* What is touched first stands first; secrets in one piece. */
    q->conns = take(a, c->connections * sizeof(struct ab_quic_conn));
    q->free_conns = take(a, c->connections * sizeof(uint32_t));
    table_init(&q->by_id, a, c->connections, q->config.seed * 3);
    table_init(&q->by_cid, a, (uint64_t)c->connections * AB_QUIC_CIDS_MAX, q->config.seed * 5);
    bits = take(a, c->connections * words * sizeof(uint64_t));
    p = take(a, ab_quic_timers_bytes(c->connections));
    if (p)
        ab_quic_timers_init(&q->timers, p, c->connections);
    p = take(a, ab_quic_blocks_bytes(c->packets / AB_QUIC_BLOCK));
    if (p)
        ab_quic_blocks_init(&q->blocks, p, c->packets / AB_QUIC_BLOCK);
    p = take(a, ab_quic_slots_bytes(c->messages, c->message_bytes));
    if (p)
        ab_quic_slots_init(&q->slots, p, c->messages, c->message_bytes);
    p = take(a, ab_quic_streams_bytes(c->streams, c->stream_bytes));
    if (p)
        ab_quic_streams_init(&q->streams, p, c->streams, c->stream_bytes, q->config.seed * 7);
    for (uint32_t i = 0; a->base && i < c->connections; i++) {
        q->free_conns[i] = c->connections - 1 - i;
        q->conns[i].uni_in.bits = bits + i * words;
        q->conns[i].bidi_in.bits = bits + i * words + c->uni_window / 64;
    }
}

int ab_quic_new(struct ab_quic **out, const struct ab_quic_config *config, const struct ab_quic_sink *sink,
                struct ab_error *err)
{
    struct arena arena = {0};
    struct ab_quic *q;
    int rc;

    *out = NULL;
    q = aligned_alloc(AB_CACHELINE, (sizeof(*q) + AB_CACHELINE - 1) / AB_CACHELINE * AB_CACHELINE);
    if (!q)
        return ab_fail(err, AB_ENOMEM, "QUIC engine: no memory");
    memset(q, 0, sizeof(*q));
    q->config = *config;
    q->sink = *sink;
    rc = check(&q->config, err);
    if (rc)
        goto fail_check;
    rc = ab_quic_crypto_init(&q->crypto, config->crypto, err);
    if (rc)
        goto fail_check;
    q->config.crypto = NULL; /* the caller's string need not live longer */
    lay_out(q, &arena);
    q->memory_bytes = (arena.used + AB_QUIC_HUGE - 1) / AB_QUIC_HUGE * AB_QUIC_HUGE;
    q->memory = mmap(NULL, q->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q->memory == MAP_FAILED) {
        rc = ab_fail(err, AB_ENOMEM, "QUIC engine: mmap of %llu bytes failed: fewer connections, messages or streams",
                     (unsigned long long)q->memory_bytes);
        goto fail_map;
    }
    /* Keys and what peers sent belong into no core file. Large pages are welcome: a slot touches one TLB entry then. */
    madvise(q->memory, q->memory_bytes, MADV_DONTDUMP);
    madvise(q->memory, q->memory_bytes, MADV_HUGEPAGE);
    arena = (struct arena){.base = q->memory};
    lay_out(q, &arena);
    q->random = q->config.seed;
    q->ready_head = q->ready_tail = q->notify = AB_QUIC_NIL;
    ab_quic_queue_init(&q->untold);
    q->slot_reserve = AB_MAX(64u, q->slots.total / 32);
    *out = q;
    return 0;
fail_map:
    ab_quic_crypto_fini(&q->crypto);
fail_check:
    free(q);
    return rc;
}

void ab_quic_touch(struct ab_quic *q)
{
    volatile uint8_t *memory = q->memory;

    for (uint64_t at = 0; at < q->memory_bytes; at += 4096)
        memory[at] = memory[at];
}

void ab_quic_free(struct ab_quic *q)
{
    if (!q)
        return;
    for (uint32_t i = 0; i < q->config.connections; i++)
        if (q->conns[i].state != AB_QUIC_STATE_FREE)
            ab_quic_keys_fini(&q->conns[i].keys, &q->crypto);
    munmap(q->memory, q->memory_bytes);
    ab_quic_crypto_fini(&q->crypto);
    free(q);
}

/* --- bursts ------------------------------------------------------------------------------------------------------- */

static void conn_free(struct ab_quic *q, struct ab_quic_conn *c)
{
    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++)
        if (c->cids.ours[i].state != AB_QUIC_CID_FREE)
            ab_quic_table_del(&q->by_cid, ab_quic_cid_key(&c->cids.ours[i].cid));
    ab_quic_table_del(&q->by_id, c->id);
    ab_quic_timer_set(&q->timers, c->index, UINT64_MAX);
    if (c->early != AB_QUIC_NIL)
        ab_quic_slot_free(&q->slots, c->early);
    while (c->events.head != AB_QUIC_NIL)
        ab_quic_slot_free(&q->slots, ab_quic_queue_pop(&q->slots, &c->events));
    ab_quic_seal_pending(q);
    ab_quic_keys_fini(&c->keys, &q->crypto);
    c->state = AB_QUIC_STATE_FREE;
    q->free_conns[q->config.connections - q->conn_count--] = c->index;
}

/* Nothing (more) to send now: when to look again. */
static void wind(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    uint64_t when;

    if (ab_unlikely(!ab_quic_conn_open(c)) && c->close_told && c->end_ns <= now && !c->notifying) {
        conn_free(q, c);
        return;
    }
    when = ab_quic_conn_deadline(q, c);
    if (ab_unlikely(c->starved))
        when = AB_MIN(when, now + AB_QUIC_RTT_GRANULARITY_NS);
    /* Due, and yet not done: something is missing (credit for an address, a record). Not again at once. */
    if (ab_unlikely(when <= now))
        when = now + AB_QUIC_RTT_GRANULARITY_NS;
    ab_quic_timer_lower(&q->timers, c->index, when);
}

/* Connections whose deadline has come get ready, a bounded number: where thousands were adopted together, what was
 * entered for them then comes due together, and looking at all of them took 5 ms in which nothing was received or sent.
 */
static void expire(struct ab_quic *q, uint64_t now)
{
    for (uint32_t n = 0; n < EXPIRE_TURN && q->timers.count && q->timers.heap[0].when <= now; n++) {
        struct ab_quic_conn *c = &q->conns[q->timers.heap[0].conn];
        uint64_t when = ab_quic_conn_deadline(q, c);

        if (when > now) { /* it has moved on since it was entered */
            ab_quic_timer_set(&q->timers, c->index, when);
            continue;
        }
        ab_quic_timer_set(&q->timers, c->index, UINT64_MAX);
        ab_quic_conn_ready(q, c);
    }
}

/* Lets those that are ready send, each a burst at a time. */
static uint32_t visit(struct ab_quic *q, struct ab_quic_out *out, uint32_t max, uint64_t now)
{
    uint32_t n = 0;

    while (q->ready_head != AB_QUIC_NIL && n < max) {
        struct ab_quic_conn *c = &q->conns[q->ready_head];
        uint32_t burst = q->config.burst_packets;

        q->ready_head = c->ready_next;
        c->ready = false;
        ab_quic_conn_timers(q, c, now);
        while (burst && n < max && ab_quic_build(q, c, &out[n], now)) {
            n++;
            burst--;
        }
        if (burst == 0 || n == max)
            ab_quic_conn_ready(q, c); /* there may be more: behind the others */
        else
            wind(q, c, now);
    }
    ab_quic_seal_pending(q);
    return n;
}

uint32_t ab_quic_tx(struct ab_quic *q, struct ab_quic_out *out, uint32_t max, uint64_t now)
{
    uint32_t n, rounds = 0;

    expire(q, now);
    n = visit(q, out, max, now);
    /* What the sink is told may make others ready: whoever is told of a fate sends again, who was told of the end goes.
     */
    while (q->notify != AB_QUIC_NIL || q->untold.count) {
        ab_quic_notify(q, now);
        if (q->ready_head == AB_QUIC_NIL || n == max || ++rounds == NOTIFY_ROUNDS)
            break;
        n += visit(q, out + n, max - n, now);
    }
    return n;
}

uint64_t ab_quic_deadline(const struct ab_quic *q)
{
    if (q->ready_head != AB_QUIC_NIL || q->notify != AB_QUIC_NIL || q->untold.count)
        return 0;
    return ab_quic_timers_next(&q->timers);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

void ab_quic_close(struct ab_quic *q, struct ab_quic_conn *c, bool app, uint64_t code, const char *reason, uint32_t len,
                   uint64_t now)
{
    ab_quic_conn_end(q, c, AB_QUIC_CLOSE_LOCAL, app, code & AB_QUIC_VARINT_MAX, 0, reason, len, now);
}

void ab_quic_drop(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    ab_quic_conn_end(q, c, AB_QUIC_CLOSE_DROPPED, false, 0, 0, "", 0, now);
    ab_quic_conn_ready(q, c);
}

void ab_quic_close_all(struct ab_quic *q, bool app, uint64_t code, const char *reason, uint32_t len, uint64_t now)
{
    q->closing = true;
    for (uint32_t i = 0; i < q->config.connections; i++)
        if (q->conns[i].state != AB_QUIC_STATE_FREE)
            ab_quic_close(q, &q->conns[i], app, code, reason, len, now);
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

struct ab_quic_conn *ab_quic_find(struct ab_quic *q, uint64_t id)
{
    const struct ab_quic_hashed *h = ab_quic_table_get(&q->by_id, id);

    return h ? &q->conns[h->conn] : NULL;
}

struct ab_quic_conn *ab_quic_at(struct ab_quic *q, uint32_t index)
{
    return index < q->config.connections && q->conns[index].state != AB_QUIC_STATE_FREE ? &q->conns[index] : NULL;
}
