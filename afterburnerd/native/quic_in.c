/* What a peer's streams bring: data in order, each byte once, within the credit that we gave (RFC 9000 2 to 4). */
#include <string.h>

#include "quic_conn.h"

static bool is_ours(const struct ab_quic_conn *c, uint64_t id)
{
    return (id & AB_QUIC_ID_SERVER) == (c->server ? AB_QUIC_ID_SERVER : 0);
}

static void tell(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id, uint64_t offset, const uint8_t *data,
                 uint32_t len, bool fin)
{
    c->counts.stream_bytes_received += len;
    c->counts.streams_received += fin;
    q->sink.data(q->sink.ctx, c, id, offset, data, len, fin);
}

/* Bytes were told or will never come: there is room for as many more on the connection (RFC 9000 4.1). */
static inline void consumed(struct ab_quic *q, struct ab_quic_conn *c, uint64_t bytes)
{
    c->rx_told += bytes;
    if (c->rx_told + c->rx_window - c->rx_limit > c->rx_window / 2 && !(c->control & AB_QUIC_CTL_MAX_DATA)) {
        c->control |= AB_QUIC_CTL_MAX_DATA;
        ab_quic_conn_ready(q, c);
    }
}

/* A transaction: a unidirectional stream that came whole, and of which nothing was here before. */
static inline int whole_stream(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    struct ab_quic_idset *set = &c->uni_in;
    uint64_t n = f->stream.id >> 2;

    if (ab_unlikely(f->stream.len > c->uni_window || c->rx_data + f->stream.len > c->rx_limit))
        return AB_QUIC_ERROR_FLOW_CONTROL;
    c->rx_data += f->stream.len;
    set->opened = AB_MAX(set->opened, n + 1);
    ab_quic_idset_end(set, n);
    if (ab_unlikely(ab_quic_idset_due(set)) && !(c->control & AB_QUIC_CTL_MAX_STREAMS_UNI)) {
        c->control |= AB_QUIC_CTL_MAX_STREAMS_UNI;
        ab_quic_conn_ready(q, c);
    }
    consumed(q, c, f->stream.len);
    tell(q, c, f->stream.id, 0, f->stream.data, f->stream.len, true);
    return 0;
}

/* The object of a stream that the peer may send on, or speaks of. *index is AB_QUIC_NIL where the stream is over, and
 * the frame says nothing new. `make`: whether a stream of the peer's that has no object yet gets one. */
static int find(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id, bool make, uint32_t *index)
{
    struct ab_quic_idset *set = id & AB_QUIC_ID_UNI ? &c->uni_in : &c->bidi_in;
    uint64_t n = id >> 2;

    *index = AB_QUIC_NIL;
    if (is_ours(c, id)) {
        /* RFC 9000 19: not opened yet; or in 0-RTT, and is still to be sent again: then it comes again as well */
        if (n >= (id & AB_QUIC_ID_UNI ? c->uni_next : c->bidi_next))
            return id & AB_QUIC_ID_UNI && n < c->early_uni ? AB_QUIC_NO_ROOM : AB_QUIC_ERROR_STREAM_STATE;
        *index = ab_quic_stream_find(&q->streams, c->index, id);
        return 0;
    }
    if (n >= set->limit)
        return AB_QUIC_ERROR_STREAM_LIMIT;
    set->opened = AB_MAX(set->opened, n + 1);
    if (ab_quic_idset_over(set, n))
        return 0;
    *index = ab_quic_stream_find(&q->streams, c->index, id);
    if (*index == AB_QUIC_NIL && make) {
        *index = ab_quic_conn_stream_make(q, c, id);
        if (*index == AB_QUIC_NIL)
            return AB_QUIC_NO_ROOM;
    }
    return 0;
}

/* The receiving side is over: everything was told. */
static void rx_over(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index)
{
    q->streams.objects[index].rx = AB_QUIC_RX_NONE;
    ab_quic_conn_stream_over(q, c, index);
}

/* Raises a stream's limit when half of its window was told, or when the peer is blocked by it and there is any room. */
static void stream_credit(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_stream *t, bool blocked)
{
    if (t->rx != AB_QUIC_RX_OPEN || t->rx_final != AB_QUIC_NO_SIZE ||
        t->rx_told + t->rx_window - t->rx_limit <= (blocked ? 0 : t->rx_window / 2))
        return;
    ab_quic_stream_credit(q, c, (uint32_t)(t - q->streams.objects), AB_QUIC_CREDIT_DUE);
    c->control |= AB_QUIC_CTL_MAX_STREAM_DATA;
    ab_quic_conn_ready(q, c);
}

/* Checks offsets against final size and credit, and takes down the highest. */
static int account(struct ab_quic_conn *c, struct ab_quic_stream *t, uint64_t end, bool final)
{
    if (t->rx_final != AB_QUIC_NO_SIZE ? end > t->rx_final || (final && end != t->rx_final)
                                       : final && end < t->rx_highest)
        return AB_QUIC_ERROR_FINAL_SIZE;
    if (end > t->rx_highest) {
        if (end > t->rx_limit || c->rx_data + (end - t->rx_highest) > c->rx_limit)
            return AB_QUIC_ERROR_FLOW_CONTROL;
        c->rx_data += end - t->rx_highest;
        t->rx_highest = end;
    }
    if (final)
        t->rx_final = end;
    return 0;
}

static int stream_object(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, const struct ab_quic_frame *f)
{
    struct ab_quic_stream *t = &q->streams.objects[index];
    uint64_t end = f->stream.offset + f->stream.len;
    const uint8_t *data;
    uint32_t n;
    int rc;

    if (t->rx == AB_QUIC_RX_NONE)
        return 0; /* all was told, or reset: what comes late says nothing new */
    /* What lies beyond the buffer's room cannot be kept, even where we have promised more: it comes again. */
    if (f->stream.offset > t->rx_told && end > t->rx_told + q->streams.room && end <= t->rx_limit)
        return AB_QUIC_NO_ROOM;
    rc = account(c, t, end, f->stream.fin);
    if (rc)
        return rc;
    if (f->stream.offset > t->rx_told) {
        ab_quic_stream_store(&q->streams, t, f->stream.offset, f->stream.data, f->stream.len);
        return 0;
    }
    if (end > t->rx_told || t->rx_final == t->rx_told) {
        uint64_t from = t->rx_told;

        n = (uint32_t)(end - from);
        t->rx_told = end;
        ab_quic_stream_forget(&q->streams, t, from, end);
        consumed(q, c, n);
        tell(q, c, t->id, from, f->stream.data + (from - f->stream.offset), n, t->rx_final == end);
    }
    while (t->rx_told != t->rx_final && (n = ab_quic_stream_ready(&q->streams, t, &data)) > 0) {
        uint64_t from = t->rx_told;

        t->rx_told += n;
        consumed(q, c, n);
        tell(q, c, t->id, from, data, n, t->rx_final == t->rx_told);
        ab_quic_stream_forget(&q->streams, t, from, from + n);
    }
    if (t->rx_told == t->rx_final) {
        rx_over(q, c, index);
        return 0;
    }
    stream_credit(q, c, t, false);
    return 0;
}

int ab_quic_in_stream(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t id = f->stream.id;
    uint32_t index;
    int rc;

    /* RFC 9000 19.8: not on a stream that only we send on. */
    if (ab_unlikely(is_ours(c, id) && id & AB_QUIC_ID_UNI))
        return AB_QUIC_ERROR_STREAM_STATE;
    if (ab_likely(id & AB_QUIC_ID_UNI && f->stream.fin && f->stream.offset == 0)) {
        if (ab_unlikely(id >> 2 >= c->uni_in.limit))
            return AB_QUIC_ERROR_STREAM_LIMIT;
        if (ab_quic_idset_over(&c->uni_in, id >> 2))
            return 0;
        if (ab_likely(c->object_count == 0 || ab_quic_stream_find(&q->streams, c->index, id) == AB_QUIC_NIL))
            return whole_stream(q, c, f);
    }
    rc = find(q, c, id, true, &index);
    if (rc || index == AB_QUIC_NIL)
        return rc;
    return stream_object(q, c, index, f);
}

int ab_quic_in_reset(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t id = f->reset_stream.id, size = f->reset_stream.final_size;
    struct ab_quic_stream *t;
    uint32_t index;
    int rc;

    if (is_ours(c, id) && id & AB_QUIC_ID_UNI)
        return AB_QUIC_ERROR_STREAM_STATE;
    rc = find(q, c, id, true, &index);
    if (rc || index == AB_QUIC_NIL)
        return rc;
    t = &q->streams.objects[index];
    if (t->rx == AB_QUIC_RX_NONE)
        return 0;
    rc = account(c, t, size, true);
    if (rc)
        return rc;
    /* RFC 9000 3.2: where everything is here already and only waits for us, it could be told instead; there is nothing
     * that waits for us. What was not told will never be: it makes room on the connection. */
    consumed(q, c, size - t->rx_told);
    q->sink.reset(q->sink.ctx, c, id, f->reset_stream.code, size);
    rx_over(q, c, index);
    return 0;
}

int ab_quic_in_stop(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t id = f->stop_sending.id;
    uint32_t index;
    int rc;

    if (!is_ours(c, id) && id & AB_QUIC_ID_UNI)
        return AB_QUIC_ERROR_STREAM_STATE;
    rc = find(q, c, id, true, &index);
    if (rc)
        return rc;
    /* RFC 9000 3.5: the answer is a RESET_STREAM with the same code. */
    if (index != AB_QUIC_NIL)
        rc = ab_quic_stream_reset_tx(q, c, index, f->stop_sending.code, AB_QUIC_OUTCOME_STOPPED);
    else if (id & AB_QUIC_ID_UNI)
        rc = ab_quic_uni_stop(q, c, id, f->stop_sending.code, AB_QUIC_OUTCOME_STOPPED);
    /* Too many answers wait already: no crime of the peer's, who has that many streams. It asks again. */
    return rc ? AB_QUIC_NO_ROOM : 0;
}

int ab_quic_in_max_stream_data(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t id = f->limit.id;
    uint32_t index;
    int rc;

    if (!is_ours(c, id) && id & AB_QUIC_ID_UNI)
        return AB_QUIC_ERROR_STREAM_STATE;
    rc = find(q, c, id, true, &index);
    if (rc || index == AB_QUIC_NIL)
        return rc;
    if (f->limit.value > q->streams.objects[index].tx_limit) {
        q->streams.objects[index].tx_limit = f->limit.value;
        q->streams.objects[index].blocked_told = false;
        ab_quic_stream_sending(q, c, index);
    }
    return 0;
}

int ab_quic_in_stream_blocked(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t id = f->limit.id;
    uint32_t index;
    int rc;

    if (is_ours(c, id) && id & AB_QUIC_ID_UNI)
        return AB_QUIC_ERROR_STREAM_STATE;
    rc = find(q, c, id, false, &index);
    if (rc || index == AB_QUIC_NIL)
        return rc;
    stream_credit(q, c, &q->streams.objects[index], f->limit.value >= q->streams.objects[index].rx_limit);
    return 0;
}

void ab_quic_in_blocked(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint32_t bit = 0;

    (void)q;
    switch (f->type) {
    case AB_QUIC_FRAME_DATA_BLOCKED:
        if (c->rx_told + c->rx_window > c->rx_limit)
            bit = AB_QUIC_CTL_MAX_DATA;
        break;
    case AB_QUIC_FRAME_STREAMS_BLOCKED_UNI:
        if (ab_quic_idset_goal(&c->uni_in) > c->uni_in.limit)
            bit = AB_QUIC_CTL_MAX_STREAMS_UNI;
        break;
    default:
        if (ab_quic_idset_goal(&c->bidi_in) > c->bidi_in.limit)
            bit = AB_QUIC_CTL_MAX_STREAMS_BIDI;
    }
    c->control |= bit;
}

int ab_quic_in_crypto(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t end = f->crypto.offset + f->crypto.len;
    struct ab_quic_stream *t;

    if (end <= c->crypto_told)
        return 0;
    if (end > c->crypto_told + AB_MIN(AB_QUIC_CRYPTO_ROOM, q->streams.room))
        return AB_QUIC_ERROR_CRYPTO_BUFFER_EXCEEDED;
    if (c->crypto_in == AB_QUIC_NIL) {
        /* No stream has this ID, so nobody else finds it. */
        c->crypto_in = ab_quic_stream_make(&q->streams, c->index, UINT64_MAX);
        if (c->crypto_in == AB_QUIC_NIL)
            return AB_QUIC_NO_ROOM;
        q->streams.objects[c->crypto_in].rx_told = c->crypto_told;
    }
    t = &q->streams.objects[c->crypto_in];
    if (f->crypto.offset < c->crypto_told) {
        uint32_t known = (uint32_t)(c->crypto_told - f->crypto.offset);

        ab_quic_stream_store(&q->streams, t, c->crypto_told, f->crypto.data + known, f->crypto.len - known);
    } else {
        ab_quic_stream_store(&q->streams, t, f->crypto.offset, f->crypto.data, f->crypto.len);
    }
    ab_quic_owe(q, c, AB_QUIC_OWED_CRYPTO);
    return 0;
}
