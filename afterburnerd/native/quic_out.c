/* Fates of slots, and streams' sending side. What a caller asks for is in quic_message.c. */
#include <string.h>

#include "quic_conn.h"

/* --- fates ------------------------------------------------------------------------------------------------------- */

void ab_quic_message_end(struct ab_quic *q, struct ab_quic_conn *c, uint32_t head)
{
    struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, head);

    if (slot->outcome == AB_QUIC_OUTCOME_ACKNOWLEDGED)
        c->counts.messages_acked++;
    else
        c->counts.messages_failed++;
    if (ab_unlikely(q->untold.count || !q->sink.done(q->sink.ctx, c, slot->token, slot->outcome, slot->first_sent))) {
        slot->object = c->index;
        ab_quic_queue_push(&q->slots, &q->untold, head);
        c->untold++;
        return;
    }
    c->slot_count--;
    ab_quic_slot_free(&q->slots, head);
}

void ab_quic_slot_end_slow(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, enum ab_quic_outcome outcome)
{
    struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index), *head;
    uint32_t head_index = slot->head, object;

    if (slot->kind == AB_QUIC_SLOT_CONTROL || slot->kind == AB_QUIC_SLOT_CRYPTO || slot->kind == AB_QUIC_SLOT_EVENT) {
        c->control_count -= slot->kind == AB_QUIC_SLOT_CONTROL;
        c->slot_count--;
        ab_quic_slot_free(&q->slots, index);
        return;
    }
    object = slot->kind == AB_QUIC_SLOT_STREAM ? slot->object : AB_QUIC_NIL;
    head = ab_quic_slot_at(&q->slots, head_index);
    if (outcome != AB_QUIC_OUTCOME_ACKNOWLEDGED)
        head->outcome = (uint8_t)outcome;
    /* The head stays until all is over, wherever it is in the message. */
    if (index != head_index) {
        c->slot_count--;
        ab_quic_slot_free(&q->slots, index);
    }
    if (--head->parts == 0)
        ab_quic_message_end(q, c, head_index);
    if (object != AB_QUIC_NIL) {
        struct ab_quic_stream *t = &q->streams.objects[object];

        if (--t->tx_pending == 0 && (t->tx == AB_QUIC_TX_FIN || t->tx == AB_QUIC_TX_RESET)) {
            t->tx = AB_QUIC_TX_NONE;
            ab_quic_conn_stream_over(q, c, object);
        }
    }
}

void ab_quic_queue_end(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_queue *queue,
                       enum ab_quic_outcome outcome)
{
    while (queue->head != AB_QUIC_NIL)
        ab_quic_slot_end(q, c, ab_quic_queue_pop(&q->slots, queue), outcome);
}

int ab_quic_control_push(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    struct ab_quic_writer w;
    struct ab_quic_slot *slot;
    uint32_t index;

    if (c->control_count >= AB_QUIC_CONTROL_MAX)
        return f->type == AB_QUIC_FRAME_RETIRE_CONNECTION_ID ? AB_QUIC_ERROR_CONNECTION_ID_LIMIT
                                                             : AB_QUIC_ERROR_PROTOCOL_VIOLATION;
    index = ab_quic_slot_alloc(&q->slots);
    if (index == AB_QUIC_NIL)
        return AB_QUIC_ERROR_INTERNAL;
    slot = ab_quic_slot_at(&q->slots, index);
    slot->head = index;
    slot->parts = 1;
    slot->kind = AB_QUIC_SLOT_CONTROL;
    slot->flags = 0;
    w = (struct ab_quic_writer){ab_quic_slot_data(slot), ab_quic_slot_data(slot) + q->slots.room};
    if (!ab_quic_frame_write(&w, f)) {
        ab_quic_slot_free(&q->slots, index);
        return AB_QUIC_ERROR_INTERNAL;
    }
    slot->len = (uint16_t)(w.p - ab_quic_slot_data(slot));
    c->control_count++;
    c->slot_count++;
    ab_quic_queue_push(&q->slots, &c->controls, index);
    ab_quic_conn_ready(q, c);
    return 0;
}

/* The packet `pn` is lost: its MAX_STREAM_DATA are due again, unless newer ones were sent since. Of the others that are
 * met on the way, what is finished goes from the list, and packets are lost in order: so each is met once for each time
 * that it was sent, whatever a peer acknowledges. */
static void credits_lost(struct ab_quic *q, struct ab_quic_conn *c, uint64_t pn)
{
    uint32_t index = c->credits_told.head;

    while (index != AB_QUIC_NIL && q->streams.objects[index].credit_pn <= pn) {
        const struct ab_quic_stream *t = &q->streams.objects[index];
        uint32_t next = t->credit_next;

        if (t->credit_pn == pn)
            ab_quic_stream_credit(q, c, index, AB_QUIC_CREDIT_DUE);
        else if (t->credit_pn < c->sent.oldest ||
                 ab_quic_sent_at(&q->blocks, &c->sent, t->credit_pn)->state != AB_QUIC_SENT_OUTSTANDING)
            ab_quic_stream_credit(q, c, index, AB_QUIC_CREDIT_NONE);
        index = next;
    }
    if (c->credits_due.head != AB_QUIC_NIL)
        c->control |= AB_QUIC_CTL_MAX_STREAM_DATA;
}

void ab_quic_chain_lost(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_sent_packet *p, uint64_t pn)
{
    uint32_t index = p->chain;

    p->chain = AB_QUIC_NIL;
    /* Of what is made from state, only what must arrive is due again; the newest value goes. */
    c->control |= p->control & (AB_QUIC_CTL_HANDSHAKE_DONE | AB_QUIC_CTL_MAX_DATA | AB_QUIC_CTL_MAX_STREAMS_UNI |
                                AB_QUIC_CTL_MAX_STREAMS_BIDI);
    if (p->control & AB_QUIC_CTL_DATA_BLOCKED)
        c->data_blocked_at = UINT64_MAX;
    if (p->control & AB_QUIC_CTL_STREAMS_BLOCKED_UNI)
        c->uni_blocked_at = UINT64_MAX;
    if (p->control & AB_QUIC_CTL_STREAMS_BLOCKED_BIDI)
        c->bidi_blocked_at = UINT64_MAX;
    if (p->control & AB_QUIC_CTL_MAX_STREAM_DATA)
        credits_lost(q, c, pn);
    while (index != AB_QUIC_NIL) {
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);
        uint32_t next = slot->next;

        switch (slot->kind) {
        case AB_QUIC_SLOT_DATAGRAM:
            ab_quic_slot_end(q, c, index, AB_QUIC_OUTCOME_LOST);
            break;
        case AB_QUIC_SLOT_STREAM:
            if (q->streams.objects[slot->object].tx == AB_QUIC_TX_RESET) {
                ab_quic_slot_end(q, c, index, q->streams.objects[slot->object].fate);
                break;
            }
            goto again;
        case AB_QUIC_SLOT_UNI:
            /* Reset before it was sent whole: what was on its way needs not arrive any more. One that was sent whole
             * when STOP_SENDING came goes on being repeated, so that the peer learns its size (RFC 9000 3.5 allows it).
             */
            if (ab_unlikely(ab_quic_slot_at(&q->slots, slot->head)->outcome != AB_QUIC_OUTCOME_ACKNOWLEDGED)) {
                ab_quic_slot_end(q, c, index, ab_quic_slot_at(&q->slots, slot->head)->outcome);
                break;
            }
            goto again;
        case AB_QUIC_SLOT_CONTROL:
            ab_quic_queue_push(&q->slots, &c->controls, index);
            break;
        default:
        again:
            c->counts.messages_resent++;
            ab_quic_queue_push(&q->slots, &c->again, index);
        }
        index = next;
    }
}

/* --- the sending side of streams --------------------------------------------------------------------------------- */

static struct ab_quic_credits *credits_of(struct ab_quic_conn *c, uint8_t credit)
{
    return credit == AB_QUIC_CREDIT_DUE ? &c->credits_due : &c->credits_told;
}

void ab_quic_stream_credit(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, enum ab_quic_credit credit)
{
    struct ab_quic_stream *objects = q->streams.objects, *t = &objects[index];
    struct ab_quic_credits *list = credits_of(c, t->credit);

    if (t->credit == AB_QUIC_CREDIT_DUE && credit == AB_QUIC_CREDIT_DUE)
        return; /* it keeps its place */
    if (t->credit != AB_QUIC_CREDIT_NONE) {
        *(t->credit_prev == AB_QUIC_NIL ? &list->head : &objects[t->credit_prev].credit_next) = t->credit_next;
        *(t->credit_next == AB_QUIC_NIL ? &list->tail : &objects[t->credit_next].credit_prev) = t->credit_prev;
    }
    t->credit = (uint8_t)credit;
    if (credit == AB_QUIC_CREDIT_NONE)
        return;
    list = credits_of(c, t->credit);
    t->credit_prev = list->tail;
    t->credit_next = AB_QUIC_NIL;
    *(list->tail == AB_QUIC_NIL ? &list->head : &objects[list->tail].credit_next) = index;
    list->tail = index;
}

void ab_quic_stream_sending(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index)
{
    struct ab_quic_stream *t = &q->streams.objects[index];

    if (t->sending || t->queue.count == 0)
        return;
    t->sending = true;
    if (c->send_ring == AB_QUIC_NIL) {
        t->send_next = index;
    } else {
        struct ab_quic_stream *last = &q->streams.objects[c->send_ring];

        t->send_next = last->send_next;
        last->send_next = index;
    }
    c->send_ring = index;
    ab_quic_conn_ready(q, c);
}

/* Takes an object out of the ring of those that have something to send. */
static void stop_sending(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index)
{
    struct ab_quic_stream *t = &q->streams.objects[index];
    uint32_t before = c->send_ring;

    if (!t->sending)
        return;
    t->sending = false;
    if (t->send_next == index) {
        c->send_ring = AB_QUIC_NIL;
        return;
    }
    while (q->streams.objects[before].send_next != index)
        before = q->streams.objects[before].send_next;
    q->streams.objects[before].send_next = t->send_next;
    if (c->send_ring == index)
        c->send_ring = before;
}

uint32_t ab_quic_conn_stream_make(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id)
{
    uint32_t index, left = q->streams.total - q->streams.used;
    struct ab_quic_stream *t;
    bool ours = (id & AB_QUIC_ID_SERVER) == (c->server ? AB_QUIC_ID_SERVER : 0), uni = id & AB_QUIC_ID_UNI;

    /* A peer that begins streams and ends none leaves objects to put together what others send. */
    if (ab_unlikely(c->object_count > AB_QUIC_SHARE * left))
        return AB_QUIC_NIL;
    index = ab_quic_stream_make(&q->streams, c->index, id);
    if (index == AB_QUIC_NIL)
        return AB_QUIC_NIL;
    t = &q->streams.objects[index];
    if (!uni || ours) {
        t->tx = AB_QUIC_TX_OPEN;
        t->tx_limit = uni ? c->uni_stream_limit : ours ? c->peer_bidi_remote : c->peer_bidi_local;
    }
    if (!uni || !ours) {
        t->rx = AB_QUIC_RX_OPEN;
        t->rx_limit = uni ? c->uni_window : ours ? c->our_bidi_local : c->our_bidi_remote;
        t->rx_window = (uint32_t)t->rx_limit;
    }
    t->next = c->objects;
    if (c->objects != AB_QUIC_NIL)
        q->streams.objects[c->objects].prev = index;
    c->objects = index;
    c->object_count++;
    return index;
}

void ab_quic_conn_stream_over(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index)
{
    struct ab_quic_stream *t = &q->streams.objects[index];
    bool ours = (t->id & AB_QUIC_ID_SERVER) == (c->server ? AB_QUIC_ID_SERVER : 0);

    if (t->rx != AB_QUIC_RX_NONE || t->tx != AB_QUIC_TX_NONE || t->tx_pending)
        return;
    stop_sending(q, c, index);
    ab_quic_stream_credit(q, c, index, AB_QUIC_CREDIT_NONE);
    if (t->prev == AB_QUIC_NIL)
        c->objects = t->next;
    else
        q->streams.objects[t->prev].next = t->next;
    if (t->next != AB_QUIC_NIL)
        q->streams.objects[t->next].prev = t->prev;
    c->object_count--;
    if (!ours) {
        struct ab_quic_idset *set = t->id & AB_QUIC_ID_UNI ? &c->uni_in : &c->bidi_in;

        ab_quic_idset_end(set, t->id >> 2);
        if (ab_quic_idset_due(set)) {
            c->control |= t->id & AB_QUIC_ID_UNI ? AB_QUIC_CTL_MAX_STREAMS_UNI : AB_QUIC_CTL_MAX_STREAMS_BIDI;
            ab_quic_conn_ready(q, c);
        }
    }
    ab_quic_stream_free(&q->streams, index);
}

void ab_quic_conn_streams_end(struct ab_quic *q, struct ab_quic_conn *c)
{
    while (c->objects != AB_QUIC_NIL) {
        uint32_t index = c->objects;
        struct ab_quic_stream *t = &q->streams.objects[index];

        /* One slot more than there are, so that the object goes here, and not with its last slot. */
        t->tx_pending++;
        ab_quic_queue_end(q, c, &t->queue, AB_QUIC_OUTCOME_CLOSED);
        t->tx_pending = 0;
        t->rx = AB_QUIC_RX_NONE;
        t->tx = AB_QUIC_TX_NONE;
        ab_quic_conn_stream_over(q, c, index);
    }
    if (c->crypto_in != AB_QUIC_NIL)
        ab_quic_stream_free(&q->streams, c->crypto_in);
    c->crypto_in = AB_QUIC_NIL;
    c->send_ring = AB_QUIC_NIL;
}

int ab_quic_stream_reset_tx(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, uint64_t code,
                            enum ab_quic_outcome outcome)
{
    struct ab_quic_stream *t = &q->streams.objects[index];
    struct ab_quic_frame f = {.type = AB_QUIC_FRAME_RESET_STREAM,
                              .reset_stream = {.id = t->id, .code = code, .final_size = t->tx_framed}};
    int rc;

    /* RFC 9000 3.1: nothing to reset where all was acknowledged or a reset is under way. */
    if (t->tx != AB_QUIC_TX_OPEN && t->tx != AB_QUIC_TX_FIN)
        return 0;
    rc = ab_quic_control_push(q, c, &f);
    if (rc)
        return rc;
    stop_sending(q, c, index);
    t->tx = AB_QUIC_TX_RESET;
    t->fate = (uint8_t)outcome;
    /* One more than there are, so that the object outlives the settling of its queue. */
    t->tx_pending++;
    ab_quic_queue_end(q, c, &t->queue, outcome);
    if (--t->tx_pending == 0) {
        t->tx = AB_QUIC_TX_NONE;
        ab_quic_conn_stream_over(q, c, index);
    }
    return 0;
}

void ab_quic_uni_expire(struct ab_quic *q, struct ab_quic_conn *c)
{
    uint32_t head = c->uni.head;

    while (c->uni.head != AB_QUIC_NIL && ab_quic_slot_at(&q->slots, c->uni.head)->head == head) {
        bool last = ab_quic_slot_at(&q->slots, c->uni.head)->flags & AB_QUIC_SLOT_LAST;

        ab_quic_slot_end(q, c, ab_quic_queue_pop(&q->slots, &c->uni), AB_QUIC_OUTCOME_EXPIRED);
        if (last) /* its slots may already be somebody else's: in `done` a caller may send */
            break;
    }
}

int ab_quic_uni_stop(struct ab_quic *q, struct ab_quic_conn *c, uint64_t id, uint64_t code,
                     enum ab_quic_outcome outcome)
{
    uint32_t first = c->uni.head;
    struct ab_quic_slot *slot = first == AB_QUIC_NIL ? NULL : ab_quic_slot_at(&q->slots, first);

    /* Only one transaction at a time can be partly sent: the first of the queue. */
    if (slot && slot->stream == id) {
        struct ab_quic_frame f = {.type = AB_QUIC_FRAME_RESET_STREAM,
                                  .reset_stream = {.id = id, .code = code, .final_size = slot->offset}};
        uint32_t head = slot->head;
        int rc = ab_quic_control_push(q, c, &f);

        if (rc)
            return rc;
        while (c->uni.head != AB_QUIC_NIL && ab_quic_slot_at(&q->slots, c->uni.head)->head == head) {
            bool last = ab_quic_slot_at(&q->slots, c->uni.head)->flags & AB_QUIC_SLOT_LAST;

            ab_quic_slot_end(q, c, ab_quic_queue_pop(&q->slots, &c->uni), outcome);
            if (last)
                break;
        }
    }
    return 0;
}
