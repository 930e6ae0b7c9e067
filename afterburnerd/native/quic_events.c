/* What the sink is owed: events are made from state when it has room for them, so that none is lost and none needs
 * memory of its own, but for the few that carry bytes of the peer's. */
#include <string.h>

#include "quic_conn.h"

void ab_quic_owe(struct ab_quic *q, struct ab_quic_conn *c, uint32_t owed)
{
    c->owed |= owed;
    if (c->notifying)
        return;
    c->notifying = true;
    c->notify_next = AB_QUIC_NIL;
    if (q->notify == AB_QUIC_NIL)
        q->notify = c->index;
    else
        q->conns[q->notify_tail].notify_next = c->index;
    q->notify_tail = c->index;
}

static bool tell(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_event *e, const void *body, uint64_t now)
{
    e->conn = c->id;
    e->time_ns = now;
    return q->sink.event(q->sink.ctx, e, body);
}

bool ab_quic_event_queue(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_event *e, const void *body)
{
    uint32_t index;
    struct ab_quic_slot *slot;

    if (c->events.count >= AB_QUIC_EVENTS_MAX || sizeof(*e) + e->length > q->slots.room)
        return false;
    index = ab_quic_slot_alloc(&q->slots);
    if (index == AB_QUIC_NIL)
        return false;
    slot = ab_quic_slot_at(&q->slots, index);
    slot->kind = AB_QUIC_SLOT_EVENT;
    memcpy(ab_quic_slot_data(slot), e, sizeof(*e));
    if (e->length)
        memcpy(ab_quic_slot_data(slot) + sizeof(*e), body, e->length);
    ab_quic_queue_push(&q->slots, &c->events, index);
    ab_quic_owe(q, c, AB_QUIC_OWED_SLOTS);
    return true;
}

void ab_quic_event_keys(struct ab_quic *q, struct ab_quic_conn *c, bool ours)
{
    const struct ab_quic_keys *k = &c->keys;
    struct ab_quic_event e = {.kind = AB_QUIC_EVENT_KEYS,
                              .number = ours ? k->tx_generation : k->rx_generation + (k->ahead ? 1 : 0),
                              .code = ours,
                              .length = ab_quic_secret_bytes(k->suite)};

    if (c->trace & 2)
        ab_quic_event_queue(q, c, &e, ours ? k->tx_secret : k->rx_secret);
}

static bool tell_slots(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    while (c->events.head != AB_QUIC_NIL) {
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, c->events.head);
        struct ab_quic_event e;

        memcpy(&e, ab_quic_slot_data(slot), sizeof(e));
        if (!tell(q, c, &e, ab_quic_slot_data(slot) + sizeof(e), now))
            return false;
        /* It may have been a secret. */
        memset(ab_quic_slot_data(slot), 0, sizeof(e) + e.length);
        ab_quic_slot_free(&q->slots, ab_quic_queue_pop(&q->slots, &c->events));
    }
    return true;
}

static bool tell_crypto(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_stream *t;
    const uint8_t *data;
    uint32_t n;

    if (c->crypto_in == AB_QUIC_NIL)
        return true;
    t = &q->streams.objects[c->crypto_in];
    while ((n = ab_quic_stream_ready(&q->streams, t, &data)) > 0) {
        struct ab_quic_event e = {.kind = AB_QUIC_EVENT_CRYPTO, .number = t->rx_told};

        n = AB_MIN(n, AB_QUIC_CRYPTO);
        e.length = n;
        if (!tell(q, c, &e, data, now))
            return false;
        ab_quic_stream_forget(&q->streams, t, t->rx_told, t->rx_told + n);
        t->rx_told += n;
        c->crypto_told = t->rx_told;
    }
    if (t->rx_held == 0) {
        ab_quic_stream_free(&q->streams, c->crypto_in);
        c->crypto_in = AB_QUIC_NIL;
    }
    return true;
}

static bool tell_cids(struct ab_quic *q, struct ab_quic_conn *c, bool ours, uint64_t now)
{
    struct ab_quic_cid_entry *entries = ours ? c->cids.ours : c->cids.peers;

    for (uint32_t i = 0; i < AB_QUIC_CIDS_MAX; i++) {
        struct ab_quic_cid_entry *e = &entries[i];
        struct ab_quic_event event = {.kind = ours ? AB_QUIC_EVENT_CID_RETIRED : AB_QUIC_EVENT_RESET_TOKEN,
                                      .number = e->cid.seq,
                                      .code = e->state == AB_QUIC_CID_GONE,
                                      .length = sizeof(e->cid)};
        /* Of the peer's, the one that we send to: no other token may reset us (RFC 9000 10.3.1). */
        bool due = (e->state == AB_QUIC_CID_GONE || (!ours && i == c->cids.in_use)) && !e->told;

        if (!due)
            continue;
        if (!tell(q, c, &event, &e->cid, now))
            return false;
        e->told = true;
        if (e->state == AB_QUIC_CID_GONE && !ours)
            memset(e, 0, sizeof(*e));
    }
    return true;
}

static bool tell_closed(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct {
        struct ab_quic_closed closed;
        char reason[AB_QUIC_REASON];
    } body = {.closed = {.counts = c->counts,
                         .srtt_ns = c->rtt.smoothed_ns,
                         .min_rtt_ns = c->rtt.min_ns,
                         .cwnd = c->cc.window,
                         .age_ns = c->closed_ns - c->adopted_ns}};
    struct ab_quic_event e = {.kind = AB_QUIC_EVENT_CLOSED,
                              .by = c->closed_by,
                              .is_app = c->close_app,
                              .code = c->close_code,
                              .number = c->close_frame,
                              .length = (uint32_t)sizeof(body.closed) + c->close_len};

    memcpy(body.reason, c->close_reason, c->close_len);
    return tell(q, c, &e, &body, now);
}

/* Tells what one connection owes; false: the sink is full. A bit goes as soon as its event was taken, so that nothing
 * is told twice when a later one found no room. */
static bool settle(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    if (c->owed & AB_QUIC_OWED_CONFIRMED) {
        struct ab_quic_event e = {.kind = AB_QUIC_EVENT_CONFIRMED};

        if (!tell(q, c, &e, NULL, now))
            return false;
        c->owed &= ~(uint32_t)AB_QUIC_OWED_CONFIRMED;
    }
    if (c->owed & AB_QUIC_OWED_SLOTS && !tell_slots(q, c, now))
        return false;
    if (c->owed & AB_QUIC_OWED_CRYPTO && !tell_crypto(q, c, now))
        return false;
    if (c->owed & AB_QUIC_OWED_PEER_CIDS && !tell_cids(q, c, false, now))
        return false;
    if (c->owed & AB_QUIC_OWED_OUR_CIDS && !tell_cids(q, c, true, now))
        return false;
    c->owed &= ~(uint32_t)(AB_QUIC_OWED_SLOTS | AB_QUIC_OWED_CRYPTO | AB_QUIC_OWED_PEER_CIDS | AB_QUIC_OWED_OUR_CIDS);
    if (c->owed & AB_QUIC_OWED_CIDS_LOW) {
        struct ab_quic_event e = {.kind = AB_QUIC_EVENT_CIDS_LOW, .number = ab_quic_cids_wanted(&c->cids)};

        if (!tell(q, c, &e, NULL, now))
            return false;
        c->owed &= ~(uint32_t)AB_QUIC_OWED_CIDS_LOW;
    }
    if (c->owed & AB_QUIC_OWED_MIGRATED) {
        const struct ab_path *to = &c->paths[AB_QUIC_PATH_ACTIVE].to;
        struct ab_quic_event e = {.kind = AB_QUIC_EVENT_MIGRATED, .length = sizeof(*to)};

        if (!tell(q, c, &e, to, now))
            return false;
        c->owed &= ~(uint32_t)AB_QUIC_OWED_MIGRATED;
    }
    if (c->owed & AB_QUIC_OWED_KEY_UPDATE) {
        struct ab_quic_event e = {.kind = AB_QUIC_EVENT_KEY_UPDATE, .number = c->update_pn, .code = c->update_ours};

        if (!tell(q, c, &e, NULL, now))
            return false;
        c->owed &= ~(uint32_t)AB_QUIC_OWED_KEY_UPDATE;
    }
    /* The last one: every message's fate is told before; with the last fate it comes back into the list. */
    if (c->owed & AB_QUIC_OWED_CLOSED && c->untold == 0) {
        if (!tell_closed(q, c, now))
            return false;
        c->owed = 0;
        c->close_told = true;
        ab_quic_conn_ready(q, c); /* it may be freed now */
    }
    return true;
}

void ab_quic_notify(struct ab_quic *q, uint64_t now)
{
    while (q->untold.head != AB_QUIC_NIL) {
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, q->untold.head);
        struct ab_quic_conn *c = &q->conns[slot->object];

        if (!q->sink.done(q->sink.ctx, c, slot->token, slot->outcome, slot->first_sent))
            break;
        c->untold--;
        c->slot_count--;
        ab_quic_slot_free(&q->slots, ab_quic_queue_pop(&q->slots, &q->untold));
        if (c->untold == 0 && c->owed)
            ab_quic_owe(q, c, 0);
    }
    /* First come, first told. Who finds the sink full is the first one when it has room again; the others are not even
     * asked: it has one ring, and asking thousands in vain took 0.1 ms of each turn. */
    while (q->notify != AB_QUIC_NIL) {
        struct ab_quic_conn *c = &q->conns[q->notify];

        if (!settle(q, c, now))
            return;
        q->notify = c->notify_next;
        c->notifying = false;
    }
}
