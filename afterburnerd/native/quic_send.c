/* What goes into the next packet, and how it becomes a datagram.
 *
 * Packets are written as plaintext right where they will be sent from, and a batch of them is sealed in place together.
 * In order of urgency: ACK, control frames, CRYPTO, what was lost, DATAGRAMs, transactions, streams. Nothing is held
 * back in hope of more: a packet takes what there is now. */
#include <string.h>

#include "quic_build.h"

#define ALONE_MAX 32 /* packets that demand no ACK in a row; then a PING keeps the peer telling what it knows */

/* --- frames made from state --------------------------------------------------------------------------------------- */

static bool put_limit(struct ab_quic_builder *b, uint64_t type, uint64_t value)
{
    if (ab_quic_builder_room(b) < 1 + AB_QUIC_VARINT_BYTES)
        return false;
    *b->p++ = (uint8_t)type;
    b->p = ab_quic_varint_put(b->p, value);
    return true;
}

static bool put_stream_limits(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b)
{
    while (c->credits_due.head != AB_QUIC_NIL) {
        uint32_t index = c->credits_due.head;
        struct ab_quic_stream *t = &q->streams.objects[index];

        if (t->rx != AB_QUIC_RX_OPEN || t->rx_final != AB_QUIC_NO_SIZE) {
            ab_quic_stream_credit(q, c, index, AB_QUIC_CREDIT_NONE);
            continue;
        }
        if (ab_quic_builder_room(b) < 1 + 2 * AB_QUIC_VARINT_BYTES)
            return false;
        t->rx_limit = AB_MAX(t->rx_limit, t->rx_told + t->rx_window);
        *b->p++ = AB_QUIC_FRAME_MAX_STREAM_DATA;
        b->p = ab_quic_varint_put(b->p, t->id);
        b->p = ab_quic_varint_put(b->p, t->rx_limit);
        b->eliciting = true;
        b->control |= AB_QUIC_CTL_MAX_STREAM_DATA;
        t->credit_pn = b->pn;
        ab_quic_stream_credit(q, c, index, AB_QUIC_CREDIT_TOLD);
    }
    return true;
}

static void put_state(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b)
{
    while (c->control) {
        uint32_t bit = c->control & -c->control;
        bool ok = true;

        switch (bit) {
        case AB_QUIC_CTL_PING:
            ok = ab_quic_builder_byte(b, AB_QUIC_FRAME_PING);
            break;
        case AB_QUIC_CTL_HANDSHAKE_DONE:
            ok = ab_quic_builder_byte(b, AB_QUIC_FRAME_HANDSHAKE_DONE);
            break;
        case AB_QUIC_CTL_MAX_DATA:
            if (c->rx_told + c->rx_window > c->rx_limit)
                c->rx_limit = c->rx_told + c->rx_window;
            ok = put_limit(b, AB_QUIC_FRAME_MAX_DATA, c->rx_limit);
            break;
        case AB_QUIC_CTL_MAX_STREAMS_UNI:
            c->uni_in.limit = AB_MAX(c->uni_in.limit, ab_quic_idset_goal(&c->uni_in));
            ok = put_limit(b, AB_QUIC_FRAME_MAX_STREAMS_UNI, c->uni_in.limit);
            break;
        case AB_QUIC_CTL_MAX_STREAMS_BIDI:
            c->bidi_in.limit = AB_MAX(c->bidi_in.limit, ab_quic_idset_goal(&c->bidi_in));
            ok = put_limit(b, AB_QUIC_FRAME_MAX_STREAMS_BIDI, c->bidi_in.limit);
            break;
        case AB_QUIC_CTL_DATA_BLOCKED:
            c->data_blocked_at = c->tx_limit;
            ok = put_limit(b, AB_QUIC_FRAME_DATA_BLOCKED, c->tx_limit);
            break;
        case AB_QUIC_CTL_STREAMS_BLOCKED_UNI:
            c->uni_blocked_at = c->uni_limit;
            ok = put_limit(b, AB_QUIC_FRAME_STREAMS_BLOCKED_UNI, c->uni_limit);
            break;
        case AB_QUIC_CTL_STREAMS_BLOCKED_BIDI:
            c->bidi_blocked_at = c->bidi_limit;
            ok = put_limit(b, AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI, c->bidi_limit);
            break;
        case AB_QUIC_CTL_MAX_STREAM_DATA:
            if (!put_stream_limits(q, c, b))
                return;
            c->control &= ~bit;
            continue;
        default:
            break;
        }
        if (!ok)
            return;
        c->control &= ~bit;
        b->control |= bit;
        b->eliciting = true;
    }
}

/* --- frames made from slots --------------------------------------------------------------------------------------- */

static void chain(struct ab_quic *q, struct ab_quic_builder *b, uint32_t index, struct ab_quic_slot *slot, uint64_t now)
{
    struct ab_quic_slot *head = ab_likely(slot->head == index) ? slot : ab_quic_slot_at(&q->slots, slot->head);

    slot->next = AB_QUIC_NIL;
    if (head->first_sent == 0)
        head->first_sent = now;
    if (b->chain_tail == AB_QUIC_NIL)
        b->chain = index;
    else
        ab_quic_slot_at(&q->slots, b->chain_tail)->next = index;
    b->chain_tail = index;
    b->eliciting = true;
}

static void put_controls(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, uint64_t now)
{
    while (c->controls.head != AB_QUIC_NIL) {
        uint32_t index = c->controls.head;
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);

        if (slot->len > ab_quic_builder_room(b))
            return;
        ab_quic_queue_pop(&q->slots, &c->controls);
        memcpy(b->p, ab_quic_slot_data(slot), slot->len);
        b->p += slot->len;
        slot->head = index;
        slot->first_sent = now;
        chain(q, b, index, slot, now);
    }
}

/* Writes the first slot of `queue` as a frame of its kind, cut if no packet of this size holds it whole, or where `cut`
 * says that a piece is welcome. False: no room. */
static bool put_first(struct ab_quic *q, struct ab_quic_builder *b, struct ab_quic_queue *queue, bool cut, uint64_t now)
{
    uint32_t index = queue->head, room = ab_quic_builder_room(b), overhead;
    struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);

    switch (slot->kind) {
    case AB_QUIC_SLOT_CRYPTO:
        overhead = 1 + ab_quic_varint_size(slot->offset) + ab_quic_varint_size(slot->len);
        break;
    case AB_QUIC_SLOT_DATAGRAM:
        overhead = 1 + ab_quic_varint_size(slot->len);
        break;
    default:
        overhead = ab_quic_stream_overhead(slot->stream, slot->offset, slot->len, true);
    }
    if (ab_unlikely(overhead + slot->len > room)) {
        bool later = !ab_quic_builder_empty(b) || overhead + slot->len <= ab_quic_builder_most(b);

        if (slot->kind == AB_QUIC_SLOT_DATAGRAM || (later && !(cut && room >= 128)) || room <= overhead ||
            !ab_quic_slot_split(&q->slots, queue, index, room - overhead))
            return false;
        b->conn->slot_count++;
        if (slot->kind == AB_QUIC_SLOT_STREAM)
            q->streams.objects[slot->object].tx_pending++;
    }
    ab_quic_queue_pop(&q->slots, queue);
    switch (slot->kind) {
    case AB_QUIC_SLOT_CRYPTO:
        *b->p++ = AB_QUIC_FRAME_CRYPTO;
        b->p = ab_quic_varint_put(b->p, slot->offset);
        b->p = ab_quic_varint_put(b->p, slot->len);
        break;
    case AB_QUIC_SLOT_DATAGRAM:
        b->p = ab_quic_datagram_put(b->p, slot->len, true);
        b->conn->counts.datagrams_sent++;
        break;
    default:
        b->p = ab_quic_stream_put(b->p, slot->stream, slot->offset, slot->len, true, slot->flags & AB_QUIC_SLOT_FIN);
    }
    memcpy(b->p, ab_quic_slot_data(slot), slot->len);
    b->p += slot->len;
    chain(q, b, index, slot, now);
    return true;
}

static void put_queue(struct ab_quic *q, struct ab_quic_builder *b, struct ab_quic_queue *queue, uint64_t now)
{
    while (queue->head != AB_QUIC_NIL && put_first(q, b, queue, false, now))
        ;
}

/* What was lost, of the stream `only` or (AB_QUIC_NO_STREAM) of all. Nothing of a stream follows its RESET_STREAM (RFC
 * 9000 19.4), so what waited here when that was made has met its fate. */
static void put_again(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, uint64_t only, uint64_t now)
{
    while (c->again.head != AB_QUIC_NIL) {
        const struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, c->again.head);
        uint8_t fate = AB_QUIC_OUTCOME_ACKNOWLEDGED;

        if (only != AB_QUIC_NO_STREAM && slot->stream != only)
            return;
        if (slot->kind == AB_QUIC_SLOT_UNI)
            fate = ab_quic_slot_at(&q->slots, slot->head)->outcome;
        else if (slot->kind == AB_QUIC_SLOT_STREAM && q->streams.objects[slot->object].tx == AB_QUIC_TX_RESET)
            fate = q->streams.objects[slot->object].fate;
        if (ab_unlikely(fate != AB_QUIC_OUTCOME_ACKNOWLEDGED))
            ab_quic_slot_end(q, c, ab_quic_queue_pop(&q->slots, &c->again), (enum ab_quic_outcome)fate);
        else if (!put_first(q, b, &c->again, false, now))
            return;
    }
}

/* The stream of the transaction that is partly sent and may go on; AB_QUIC_NO_STREAM: none. One that waits for credit
 * is none: until that comes others may go, and what was lost must, for it may be what the peer waits for. */
static uint64_t begun_uni(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    const struct ab_quic_slot *slot;

    if (c->uni.head == AB_QUIC_NIL)
        return AB_QUIC_NO_STREAM;
    slot = ab_quic_slot_at(&q->slots, c->uni.head);
    return slot->len <= c->tx_limit - c->tx_data ? slot->stream : AB_QUIC_NO_STREAM;
}

static uint64_t begun(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    uint64_t id = begun_uni(q, c);
    const struct ab_quic_stream *t;

    if (id != AB_QUIC_NO_STREAM || c->send_ring == AB_QUIC_NIL)
        return id;
    /* It keeps its turn in the ring until it is out, or has no credit. */
    t = &q->streams.objects[q->streams.objects[c->send_ring].send_next];
    return t->transaction && t->tx_framed && t->tx_framed < t->tx_limit && t->queue.head != AB_QUIC_NIL &&
                   c->tx_data < c->tx_limit
               ? t->id
               : AB_QUIC_NO_STREAM;
}

/* A DATAGRAM that has become too long for the path while it waited (the path's MTU fell) will never leave, and must not
 * be in the way of others. */
static void drop_oversized(struct ab_quic *q, struct ab_quic_conn *c)
{
    uint32_t most = c->mtu.size - 1u - ab_quic_cids_peer(&c->cids)->len - AB_QUIC_PN_BYTES - AB_QUIC_TAG_BYTES;

    while (c->datagrams.head != AB_QUIC_NIL) {
        const struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, c->datagrams.head);

        if (ab_likely(1u + ab_quic_varint_size(slot->len) + slot->len <= most))
            return;
        ab_quic_slot_end(q, c, ab_quic_queue_pop(&q->slots, &c->datagrams), AB_QUIC_OUTCOME_LOST);
    }
}

/* A transaction that is longer than the credit of a new stream gets an object and waits there, so that others need not.
 */
static bool uni_to_object(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id)
{
    uint32_t index = ab_quic_conn_stream_make(q, c, id), head = c->uni.head;
    struct ab_quic_stream *t;

    if (index == AB_QUIC_NIL)
        return false;
    t = &q->streams.objects[index];
    t->tx = AB_QUIC_TX_FIN;
    t->transaction = true;
    while (c->uni.head != AB_QUIC_NIL && ab_quic_slot_at(&q->slots, c->uni.head)->head == head) {
        uint32_t at = ab_quic_queue_pop(&q->slots, &c->uni);
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, at);

        slot->kind = AB_QUIC_SLOT_STREAM;
        slot->stream = id;
        slot->object = index;
        t->tx_written += slot->len;
        t->tx_pending++;
        ab_quic_queue_push(&q->slots, &t->queue, at);
    }
    c->uni_next++;
    ab_quic_stream_sending(q, c, index);
    return true;
}

static uint64_t message_bytes(struct ab_quic *q, uint32_t head)
{
    uint64_t bytes = 0;

    for (uint32_t i = head; i != AB_QUIC_NIL && ab_quic_slot_at(&q->slots, i)->head == head;
         i = ab_quic_slot_at(&q->slots, i)->next)
        bytes += ab_quic_slot_at(&q->slots, i)->len;
    return bytes;
}

/* No credit of the peer on the connection for `len` bytes more: says so once (RFC 9000 4.1). True: as much as there is
 * may be sent all the same, since nothing is under way that could bring more. */
static bool data_blocked(struct ab_quic_conn *c)
{
    if (c->data_blocked_at != c->tx_limit) {
        c->control |= AB_QUIC_CTL_DATA_BLOCKED;
        return false;
    }
    return c->tx_limit > c->tx_data && c->sent.outstanding == 0;
}

/* A transaction of `bytes` in several slots, of which nothing has left, as one frame. */
static void put_run(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, uint64_t id, uint64_t bytes,
                    uint64_t now)
{
    uint32_t head = c->uni.head;
    bool last = false;

    b->p = ab_quic_stream_put(b->p, id, 0, (uint32_t)bytes, true, true);
    while (!last) {
        uint32_t index = ab_quic_queue_pop(&q->slots, &c->uni);
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);

        last = slot->flags & AB_QUIC_SLOT_LAST || c->uni.head == AB_QUIC_NIL ||
               ab_quic_slot_at(&q->slots, c->uni.head)->head != head;
        slot->stream = id;
        memcpy(b->p, ab_quic_slot_data(slot), slot->len);
        b->p += slot->len;
        chain(q, b, index, slot, now);
    }
    c->uni_next++;
    c->tx_data += bytes;
}

/* Transactions in their order; `fresh`: such as were not begun yet, too, and `late`: none of them that takes several
 * frames. */
static void put_uni(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, bool fresh, bool late,
                    uint64_t now)
{
    const uint64_t kind = AB_QUIC_ID_UNI + (c->server ? AB_QUIC_ID_SERVER : 0);

    if (ab_unlikely(q->config.pack && b->transactions >= q->config.pack))
        return;
    while (c->uni.head != AB_QUIC_NIL) {
        uint32_t index = c->uni.head, need, room;
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);
        uint64_t id = slot->stream;

        if (id == AB_QUIC_NO_STREAM) {
            if (ab_unlikely(!fresh))
                break;
            if (ab_unlikely(slot->expires && slot->expires <= now)) {
                ab_quic_uni_expire(q, c);
                continue;
            }
            if (ab_unlikely(c->uni_next >= c->uni_limit)) {
                if (c->uni_blocked_at != c->uni_limit)
                    c->control |= AB_QUIC_CTL_STREAMS_BLOCKED_UNI;
                b->stalled = AB_QUIC_BLOCKED_STREAMS;
                break;
            }
            id = c->uni_next * 4 + kind;
            if (ab_unlikely(slot->parts > 1 || slot->len > c->uni_stream_limit)) {
                uint64_t bytes = message_bytes(q, index);

                if (bytes > c->uni_stream_limit) {
                    if (!uni_to_object(q, c, id)) {
                        b->stalled = AB_QUIC_BLOCKED_CREDIT;
                        break;
                    }
                    continue;
                }
                need = (uint32_t)AB_MIN(
                    ab_quic_stream_overhead(id, 0, (uint32_t)AB_MIN(bytes, UINT32_MAX), true) + bytes, UINT32_MAX);
                if (need <= ab_quic_builder_most(b) && bytes <= c->tx_limit - c->tx_data) {
                    if (need > ab_quic_builder_room(b))
                        break; /* whole in the next packet */
                    put_run(q, c, b, id, bytes, now);
                    if (++b->transactions == q->config.pack)
                        break;
                    continue;
                }
                if (late)
                    break;
            }
        }
        if (ab_unlikely(slot->len > c->tx_limit - c->tx_data)) {
            b->stalled = AB_QUIC_BLOCKED_CREDIT;
            if (!data_blocked(c) ||
                !ab_quic_slot_split(&q->slots, &c->uni, index, (uint32_t)(c->tx_limit - c->tx_data)))
                break;
            c->slot_count++;
        }
        room = ab_quic_builder_room(b);
        need = ab_quic_stream_overhead(id, slot->offset, slot->len, true);
        if (need + slot->len > room) {
            /* Whole in the next packet, unless it does not fit any. */
            if (late || !ab_quic_builder_empty(b) || need + slot->len <= ab_quic_builder_most(b) || room <= need ||
                !ab_quic_slot_split(&q->slots, &c->uni, index, room - need))
                break;
            c->slot_count++;
        }
        if (slot->stream == AB_QUIC_NO_STREAM) {
            /* Now it has left: its other pieces, which follow it in the queue, belong to the same stream. */
            c->uni_next++;
            slot->stream = id;
            for (uint32_t i = slot->next; ab_unlikely(!(slot->flags & AB_QUIC_SLOT_LAST)) && i != AB_QUIC_NIL &&
                                          ab_quic_slot_at(&q->slots, i)->head == index;
                 i = ab_quic_slot_at(&q->slots, i)->next)
                ab_quic_slot_at(&q->slots, i)->stream = id;
        }
        ab_quic_queue_pop(&q->slots, &c->uni);
        ab_quic_slot_fetch(&q->slots, c->uni.head, slot->len); /* the next one, likely as long */
        b->p = ab_quic_stream_put(b->p, id, slot->offset, slot->len, true, slot->flags & AB_QUIC_SLOT_FIN);
        memcpy(b->p, ab_quic_slot_data(slot), slot->len);
        b->p += slot->len;
        c->tx_data += slot->len;
        chain(q, b, index, slot, now);
        if (++b->transactions == q->config.pack)
            break;
    }
}

/* Streams that have an object, in turn; `fresh` and `late` as above. */
static void put_streams(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, bool fresh, bool late,
                        uint64_t now)
{
    while (c->send_ring != AB_QUIC_NIL) {
        struct ab_quic_stream *last = &q->streams.objects[c->send_ring];
        uint32_t index = last->send_next;
        struct ab_quic_stream *t = &q->streams.objects[index];
        struct ab_quic_slot *slot;
        uint64_t credit, all;

        if (t->queue.head == AB_QUIC_NIL)
            goto out;
        if (ab_unlikely((!fresh || (t->transaction && late)) && !(t->transaction && t->tx_framed)))
            return;
        slot = ab_quic_slot_at(&q->slots, t->queue.head);
        credit = t->tx_limit - AB_MIN(slot->offset, t->tx_limit);
        all = c->tx_limit - c->tx_data;
        if (ab_unlikely(slot->len > credit && credit <= all)) {
            if (credit == 0) {
                struct ab_quic_frame f = {.type = AB_QUIC_FRAME_STREAM_DATA_BLOCKED,
                                          .limit = {.id = t->id, .value = t->tx_limit}};

                if (!t->blocked_told)
                    t->blocked_told = ab_quic_control_push(q, c, &f) == 0;
                b->stalled = AB_QUIC_BLOCKED_CREDIT;
                goto out;
            }
        } else if (ab_unlikely(slot->len > all)) {
            b->stalled = AB_QUIC_BLOCKED_CREDIT;
            if (all == 0) {
                data_blocked(c);
                return;
            }
            credit = all;
        }
        if (slot->len > credit) {
            if (!ab_quic_slot_split(&q->slots, &t->queue, t->queue.head, (uint32_t)credit))
                return;
            t->tx_pending++;
            c->slot_count++;
        }
        if (!put_first(q, b, &t->queue, true, now))
            return;
        c->tx_data += slot->len;
        t->tx_framed = slot->offset + slot->len;
        if (t->queue.head != AB_QUIC_NIL) {
            if (!t->transaction)      /* one that was begun goes on as long as it may: no other one's frames between */
                c->send_ring = index; /* the next one's turn */
            continue;
        }
    out:
        t->sending = false;
        if (t->send_next == index)
            c->send_ring = AB_QUIC_NIL;
        else
            last->send_next = t->send_next;
    }
}

/* Goes on with what is begun; false: nothing of it went into the packet. */
static bool put_begun(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, uint64_t id, uint64_t now)
{
    const uint8_t *before = b->p;

    /* Its own first frames may be lost while the last ones wait for the window. */
    put_again(q, c, b, id, now);
    if (begun_uni(q, c) == id)
        put_uni(q, c, b, false, false, now);
    else
        put_streams(q, c, b, false, false, now);
    return b->p != before;
}

/* What was lost goes before what is new, but no other transaction's frame between two of one: a peer that reads streams
 * one after the other would keep the first waiting. So one that is partly sent goes on before what was lost, which
 * waits for the end of that one and of no other: none in several frames is begun as long as it waits. It does not wait
 * for one that has no credit, nor for one of which nothing went into a packet that was all its own (no slot was free to
 * cut it): what is lost may be all that could bring either. The congestion window stops both alike, and a probe may
 * carry both. */
static void put_data(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_builder *b, uint64_t now)
{
    bool own = b->p == b->start, held, late;
    uint64_t id;

    while (ab_unlikely((id = begun(q, c)) != AB_QUIC_NO_STREAM))
        if (!put_begun(q, c, b, id, now))
            break;
    held = id != AB_QUIC_NO_STREAM && !(own && b->p == b->start);
    if (ab_likely(!held))
        put_again(q, c, b, AB_QUIC_NO_STREAM, now);
    late = c->again.head != AB_QUIC_NIL && !(own && b->p == b->start);
    if (c->datagrams.head != AB_QUIC_NIL) {
        drop_oversized(q, c);
        put_queue(q, b, &c->datagrams, now);
    }
    if (ab_unlikely(held))
        return;
    put_uni(q, c, b, true, late, now);
    put_streams(q, c, b, true, late, now);
}

/* --- packets ------------------------------------------------------------------------------------------------------ */

void ab_quic_seal_pending(struct ab_quic *q)
{
    if (q->sealing)
        ab_quic_seal_batch(&q->crypto, q->ops, q->sealing);
    q->sealing = 0;
}

/* Whether there is anything that demands an ACK, and credit to send it. What only looks so is found out in writing. */
static bool has_content(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    return c->control || c->controls.count || c->again.count || c->crypto.count || c->datagrams.count ||
           (c->uni.count && (c->uni_next < c->uni_limit || c->uni_blocked_at != c->uni_limit ||
                             ab_quic_slot_at(&q->slots, c->uni.head)->stream != AB_QUIC_NO_STREAM)) ||
           c->send_ring != AB_QUIC_NIL;
}

static void note_blocked(struct ab_quic_conn *c, enum ab_quic_blocked by, uint64_t now)
{
    if (c->blocked_by == by)
        return;
    switch ((enum ab_quic_blocked)c->blocked_by) {
    case AB_QUIC_BLOCKED_NOT:
        break;
    case AB_QUIC_BLOCKED_CREDIT:
        c->counts.blocked_credit_ns += now - c->blocked_ns;
        break;
    case AB_QUIC_BLOCKED_WINDOW:
        c->counts.blocked_window_ns += now - c->blocked_ns;
        break;
    case AB_QUIC_BLOCKED_STREAMS:
        c->counts.blocked_streams_ns += now - c->blocked_ns;
        break;
    }
    c->blocked_by = by;
    c->blocked_ns = now;
}

static bool build_probe(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_out *out, uint32_t size, uint64_t now)
{
    struct ab_quic_builder b;

    if (!ab_quic_builder_begin(q, c, &c->paths[AB_QUIC_PATH_ACTIVE], out, size, &b, now))
        return false;
    *b.p++ = AB_QUIC_FRAME_PING;
    memset(b.p, 0, (size_t)(b.end - b.p));
    b.p = b.end;
    b.eliciting = true;
    b.flags = AB_QUIC_SENT_PROBE;
    out->probe = true;
    ab_quic_mtu_probe_sent(&c->mtu);
    ab_quic_builder_finish(&b, now);
    return true;
}

static bool no_records(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    return c->sent.next + 2 > c->sent.end && (q->blocks.total - q->blocks.used <= q->conn_count / 8 + 2 ||
                                              c->sent.end - c->sent.base > AB_QUIC_BLOCK * (AB_QUIC_SENT_BLOCKS - 16));
}

static bool records_short(struct ab_quic *q, struct ab_quic_conn *c)
{
    if (ab_likely(!no_records(q, c)))
        return false;
    /* What is kept of lost packets, only to tell that they were late, goes first. */
    ab_quic_sent_trim(&q->blocks, &c->sent, UINT64_MAX);
    return c->starved = no_records(q, c);
}

bool ab_quic_build(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_out *out, uint64_t now)
{
    struct ab_quic_builder b;
    struct ab_quic_path *path = &c->paths[AB_QUIC_PATH_ACTIVE];
    bool ack_due, may, content;
    uint32_t probe;

    if (ab_unlikely(!ab_quic_conn_open(c)))
        return c->close_due && ab_quic_build_close(q, c, out, now);
    for (uint32_t i = 0; i < AB_QUIC_PATHS; i++)
        if (ab_unlikely(c->paths[i].respond || c->paths[i].again_ns <= now) &&
            ab_quic_build_path(q, c, &c->paths[i], out, now))
            return true;
    ack_due = ab_quic_ack_deadline(&c->ack) <= now;
    content = has_content(q, c);
    if (ab_unlikely(c->probes) && !content) {
        /* The second probe of a timeout, when all there was is in the first: it doubles the chance (RFC 9002 6.2.4). */
        c->control |= AB_QUIC_CTL_PING;
        content = true;
    }
    may = c->probes || (ab_quic_cc_room(&c->cc) >= c->mtu.size && ab_quic_pacer_room(&c->pacer, now) >= c->mtu.size);
    c->pace_blocked = c->starved = false;
    if (content && !may) {
        bool window = ab_quic_cc_room(&c->cc) < c->mtu.size;

        ab_quic_cc_blocked(&c->cc, UINT64_MAX, now);
        c->pace_blocked = !window;
        note_blocked(c, window ? AB_QUIC_BLOCKED_WINDOW : AB_QUIC_BLOCKED_NOT, now);
        content = false;
    }
    /* Records of sent packets are kept back for ACKs and probes: without them nothing would ever be freed. */
    if (content && !c->probes && ab_unlikely(records_short(q, c) || ab_quic_keys_scarce(&c->keys))) {
        /* What is known to be lost was kept for the case that it comes late; where nothing is under way no ACK will
         * come that would let it go. */
        ab_quic_sent_trim(&q->blocks, &c->sent, UINT64_MAX);
        content = !records_short(q, c) && !ab_quic_keys_scarce(&c->keys);
    }
    if (ab_unlikely(c->mtu.max > out->room)) /* what does not fit our own buffers needs no probe */
        ab_quic_mtu_set_max(&c->mtu, out->room);
    /* A search for a larger MTU goes on by itself, but begins anew only where there is something to send: it must not
     * keep an idle connection alive. */
    if (may && c->rtt.sampled && (content || c->mtu.state == AB_QUIC_MTU_SEARCHING) &&
        (probe = ab_quic_mtu_probe(&c->mtu, now)) != 0 && path->validated && build_probe(q, c, out, probe, now))
        return true;
    if (!ack_due && !content)
        return false;
    if (!ab_quic_builder_begin(q, c, path, out, c->mtu.size, &b, now))
        return false;
    if (ab_quic_ack_pending(&c->ack) || ack_due) {
        struct ab_quic_writer w = {b.p, b.end};
        uint64_t largest = ab_quic_ack_write(&c->ack, &w, now);

        if (largest != AB_QUIC_ACK_NONE)
            b.acks = largest + 1;
        b.p = w.p;
        b.payload = b.p; /* an ACK alone is no reason to cut what follows */
    }
    if (content) {
        put_state(q, c, &b);
        put_controls(q, c, &b, now);
        put_queue(q, &b, &c->crypto, now);
        put_data(q, c, &b, now);
        if (ab_unlikely(c->control))
            put_state(q, c, &b); /* what turned out to be blocked */
        note_blocked(c, b.stalled, now);
    } else if (++c->acks_alone >= ALONE_MAX && may) {
        b.eliciting = ab_quic_builder_byte(&b, AB_QUIC_FRAME_PING);
    }
    if (b.p == b.start)
        return false;
    ab_quic_builder_finish(&b, now);
    return true;
}
