/* What a caller wants to have sent: messages into slots, and the other calls about a connection. */
#include <string.h>

#include "quic_conn.h"

/* A run of slots that holds `len` bytes. The head counts its parts. */
struct run {
    uint32_t head, tail, parts;
};

/* make_run: false: not enough slots, and nothing was taken. */
static bool make_run(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_msg *m,
                     enum ab_quic_slot_kind kind, uint32_t piece, struct run *run)
{
    uint32_t parts = ab_likely(m->len <= piece) ? 1 : (m->len + piece - 1) / piece, done = 0; /* a division: 5 ns */
    uint32_t left = ab_quic_slots_left(&q->slots), reserve = q->slot_reserve;

    /* What goes on a stream that is open may take half of what others leave: else those that wait for a stream could
     * keep the one that they wait for from its end. CRYPTO of an adoption may take all, or its tickets were lost. */
    if (ab_unlikely(kind == AB_QUIC_SLOT_STREAM || kind == AB_QUIC_SLOT_CRYPTO))
        reserve = kind == AB_QUIC_SLOT_STREAM ? reserve / 2 : 0;
    if (ab_unlikely(left < parts + reserve))
        return false;
    /* Nobody has more than AB_QUIC_SHARE times what is left for the others: a peer that gives no credit, or is gone,
     * leaves some to each of those that come after it. */
    if (ab_unlikely(c->slot_count && c->slot_count + parts > AB_QUIC_SHARE * (left - reserve)) &&
        reserve == q->slot_reserve)
        return false;
    *run = (struct run){AB_QUIC_NIL, AB_QUIC_NIL, parts};
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t index = ab_quic_slot_alloc(&q->slots), n = AB_MIN(piece, m->len - done);
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, index);

        ab_quic_slot_fetch(&q->slots, q->slots.free, n);
        if (i == 0) {
            run->head = index;
            slot->parts = parts;
            slot->token = m->token;
            slot->first_sent = 0;
            slot->expires = m->expires;
            slot->outcome = AB_QUIC_OUTCOME_ACKNOWLEDGED;
        } else {
            ab_quic_slot_at(&q->slots, run->tail)->next = index;
        }
        run->tail = index;
        slot->head = run->head;
        slot->kind = (uint8_t)kind;
        slot->len = (uint16_t)n;
        slot->flags = i + 1 == parts ? AB_QUIC_SLOT_LAST : 0;
        slot->stream = AB_QUIC_NO_STREAM;
        slot->offset = done;
        memcpy(ab_quic_slot_data(slot), m->data + done, n);
        done += n;
    }
    c->slot_count += parts;
    return true;
}

/* How long a slot may be to fit one frame of one packet: what is longer is cut into pieces that do. */
static uint32_t piece_bytes(const struct ab_quic *q, const struct ab_quic_conn *c, uint32_t len)
{
    uint32_t packet = c->mtu.size - 1u - ab_quic_cids_peer(&c->cids)->len - AB_QUIC_PN_BYTES - AB_QUIC_TAG_BYTES;
    uint32_t whole = packet - (1 + AB_QUIC_VARINT_BYTES + 2), part = whole - AB_QUIC_VARINT_BYTES;

    return len <= AB_MIN(whole, q->slots.room) ? q->slots.room : AB_MIN(part, q->slots.room);
}

static void append(struct ab_quic *q, struct ab_quic_queue *queue, const struct run *run)
{
    if (queue->tail == AB_QUIC_NIL)
        queue->head = run->head;
    else
        ab_quic_slot_at(&q->slots, queue->tail)->next = run->head;
    queue->tail = run->tail;
    queue->count += run->parts;
}

static int full(struct ab_quic *q)
{
    q->totals.pushed_back++;
    return AB_QUIC_EFULL;
}

static int send_stream(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_msg *m)
{
    struct ab_quic_stream *t;
    struct run run;
    uint32_t index, at;

    index = ab_quic_stream_find(&q->streams, c->index, m->stream);
    if (index == AB_QUIC_NIL || q->streams.objects[index].tx != AB_QUIC_TX_OPEN)
        return AB_QUIC_ESTREAM;
    t = &q->streams.objects[index];
    if (t->tx_written + m->len > AB_QUIC_VARINT_MAX)
        return AB_QUIC_ETOOLONG;
    if (!make_run(q, c, m, AB_QUIC_SLOT_STREAM, piece_bytes(q, c, m->len), &run))
        return full(q);
    at = run.head;
    for (uint32_t i = 0; i < run.parts; i++) {
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, at);

        slot->stream = m->stream;
        slot->object = index;
        slot->offset += t->tx_written;
        at = slot->next;
    }
    if (m->fin) {
        ab_quic_slot_at(&q->slots, run.tail)->flags |= AB_QUIC_SLOT_FIN;
        t->tx = AB_QUIC_TX_FIN;
    }
    t->tx_written += m->len;
    t->tx_pending += run.parts;
    append(q, &t->queue, &run);
    ab_quic_stream_sending(q, c, index);
    return 0;
}

/* Opens a stream of ours that has an object from the start. Where the peer does not allow another one yet, the caller
 * has to wait: the ID of a stream is known only when it is allowed. */
static int open_stream(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_msg *m, bool uni)
{
    uint64_t *next = uni ? &c->uni_next : &c->bidi_next, limit = uni ? c->uni_limit : c->bidi_limit;
    uint64_t id = *next * 4 + (uni ? AB_QUIC_ID_UNI : 0) + (c->server ? AB_QUIC_ID_SERVER : 0);
    uint32_t parts = m->len / piece_bytes(q, c, m->len) + 1, index;
    int rc;

    if (*next >= limit) {
        if (*(uni ? &c->uni_blocked_at : &c->bidi_blocked_at) != limit) {
            c->control |= uni ? AB_QUIC_CTL_STREAMS_BLOCKED_UNI : AB_QUIC_CTL_STREAMS_BLOCKED_BIDI;
            ab_quic_conn_ready(q, c);
        }
        return full(q);
    }
    /* Those of 0-RTT are not all sent again yet: their streams are theirs. */
    if (uni && *next < c->early_uni)
        return full(q);
    if (ab_quic_slots_left(&q->slots) < parts + q->slot_reserve)
        return full(q);
    index = ab_quic_conn_stream_make(q, c, id);
    if (index == AB_QUIC_NIL)
        return full(q);
    m->stream = id;
    ++*next;
    if (m->len == 0 && !m->fin) {
        /* Opened, nothing to say: there is nothing that could be acknowledged, so it is told at once. */
        c->counts.messages_sent++;
        c->counts.messages_acked++;
        if (q->sink.done(q->sink.ctx, c, m->token, AB_QUIC_OUTCOME_ACKNOWLEDGED, 0))
            return 0;
        c->counts.messages_sent--;
        c->counts.messages_acked--;
        rc = AB_QUIC_EFULL;
    } else {
        rc = send_stream(q, c, m);
    }
    if (rc) { /* cannot be: the room was asked for */
        struct ab_quic_stream *t = &q->streams.objects[index];

        --*next;
        t->rx = AB_QUIC_RX_NONE;
        t->tx = AB_QUIC_TX_NONE;
        ab_quic_conn_stream_over(q, c, index);
    }
    return rc;
}

int ab_quic_send(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_msg *m, uint64_t now)
{
    struct run run;
    int rc = 0;

    (void)now;
    if (ab_unlikely(!ab_quic_conn_open(c)))
        return AB_QUIC_ECLOSED;
    if (ab_unlikely(m->len > (uint64_t)(q->slots.total - q->slot_reserve) * AB_MIN(1024u, q->slots.room)))
        return AB_QUIC_ETOOLONG;
    switch (m->how) {
    case AB_QUIC_SEND_UNI:
        if (ab_unlikely(!make_run(q, c, m, AB_QUIC_SLOT_UNI, piece_bytes(q, c, m->len), &run)))
            return full(q);
        ab_quic_slot_at(&q->slots, run.tail)->flags |= AB_QUIC_SLOT_FIN;
        append(q, &c->uni, &run);
        break;
    case AB_QUIC_SEND_DATAGRAM:
        if (c->peer_max_datagram == 0)
            return AB_QUIC_EABSENT;
        /* One frame, in a datagram of the smallest path: it has no second chance to be cut. */
        if (m->len > q->slots.room || m->len + 1 + ab_quic_varint_size(m->len) > c->peer_max_datagram ||
            m->len > c->mtu.size - 45u)
            return AB_QUIC_ETOOLONG;
        if (!make_run(q, c, m, AB_QUIC_SLOT_DATAGRAM, q->slots.room, &run))
            return full(q);
        append(q, &c->datagrams, &run);
        break;
    case AB_QUIC_SEND_BIDI_OPEN:
    case AB_QUIC_SEND_UNI_OPEN:
        if (m->len == 0 && !m->fin) /* counted there */
            return open_stream(q, c, m, m->how == AB_QUIC_SEND_UNI_OPEN);
        rc = open_stream(q, c, m, m->how == AB_QUIC_SEND_UNI_OPEN);
        break;
    case AB_QUIC_SEND_STREAM:
        rc = send_stream(q, c, m);
        break;
    default:
        return AB_EINVAL;
    }
    if (rc)
        return rc;
    c->counts.messages_sent++;
    ab_quic_conn_ready(q, c);
    return 0;
}

int ab_quic_send_crypto(struct ab_quic *q, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    struct ab_quic_msg m = {.data = data, .len = len};
    uint32_t piece = AB_MIN(q->slots.room, 1024u), at;
    struct run run;

    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    if (len == 0)
        return 0;
    if (!make_run(q, c, &m, AB_QUIC_SLOT_CRYPTO, piece, &run))
        return full(q);
    at = run.head;
    for (uint32_t i = 0; i < run.parts; i++) {
        struct ab_quic_slot *slot = ab_quic_slot_at(&q->slots, at);

        slot->offset += c->crypto_written;
        slot->head = at; /* each is freed for itself */
        slot->parts = 1;
        at = slot->next;
    }
    c->crypto_written += len;
    append(q, &c->crypto, &run);
    ab_quic_conn_ready(q, c);
    return 0;
}

int ab_quic_send_token(struct ab_quic *q, struct ab_quic_conn *c, const uint8_t *token, uint32_t len)
{
    struct ab_quic_frame f = {.type = AB_QUIC_FRAME_NEW_TOKEN, .blob = {.data = token, .len = len}};

    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    if (!c->server || len == 0)
        return AB_EINVAL;
    /* A frame is not cut: it has to fit the smallest packet, with room for an ACK before it. */
    if (len > AB_QUIC_TOKEN_MAX || len + 1 + ab_quic_varint_size(len) > q->slots.room)
        return AB_QUIC_ETOOLONG;
    return ab_quic_control_push(q, c, &f) ? full(q) : 0;
}

int ab_quic_reset_stream(struct ab_quic *q, struct ab_quic_conn *c, uint64_t stream, uint64_t code)
{
    uint32_t index = ab_quic_stream_find(&q->streams, c->index, stream);

    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    if (code > AB_QUIC_VARINT_MAX)
        return AB_EINVAL;
    if (index == AB_QUIC_NIL || q->streams.objects[index].tx == AB_QUIC_TX_NONE)
        return AB_QUIC_ESTREAM;
    return ab_quic_stream_reset_tx(q, c, index, code, AB_QUIC_OUTCOME_RESET) ? full(q) : 0;
}

int ab_quic_stop_sending(struct ab_quic *q, struct ab_quic_conn *c, uint64_t stream, uint64_t code)
{
    struct ab_quic_frame f = {.type = AB_QUIC_FRAME_STOP_SENDING, .stop_sending = {.id = stream, .code = code}};
    uint32_t index = ab_quic_stream_find(&q->streams, c->index, stream);

    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    if (code > AB_QUIC_VARINT_MAX)
        return AB_EINVAL;
    if (index == AB_QUIC_NIL || q->streams.objects[index].rx != AB_QUIC_RX_OPEN || q->streams.objects[index].stopped)
        return AB_QUIC_ESTREAM;
    if (ab_quic_control_push(q, c, &f))
        return full(q);
    q->streams.objects[index].stopped = true;
    return 0;
}

int ab_quic_update_keys(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    (void)now;
    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    if (!c->confirmed || !ab_quic_keys_may_update(&c->keys))
        return AB_QUIC_EEARLY;
    c->keys.wanted = true;
    c->control |= AB_QUIC_CTL_PING; /* an update takes place with a packet */
    ab_quic_conn_ready(q, c);
    return 0;
}

void ab_quic_ping(struct ab_quic *q, struct ab_quic_conn *c)
{
    if (!ab_quic_conn_open(c))
        return;
    c->control |= AB_QUIC_CTL_PING;
    ab_quic_conn_ready(q, c);
}
