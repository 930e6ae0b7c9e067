/* Packets in: protection off, a batch at a time; then each one's frames, one after the other.
 *
 *   datagram -> connection by its ID -> header bare -> number, key -> opened -> seen before? -> phase, path -> frames
 *
 * Until a packet is opened nothing of it is believed, and nothing changes but counters (RFC 9001 5.5, 9.5). */
#include <string.h>

#include "quic_conn.h"
#include "quic_qlog.h"

struct incoming {
    struct ab_quic_conn *conn;
    struct ab_dgram *d;
    uint64_t cid_seq; /* connection ID of ours that it came to */
    uint64_t pn;
    uint32_t generation;
    uint8_t choice; /* enum ab_quic_key_choice */
};

/* RFC 9000 10.3: whether a datagram that could not be opened ends with the reset token of the connection ID that we
 * send to, compared in constant time. Tokens of those that we have not used, or that are retired, mean nothing
 * (10.3.1). */
static bool is_reset(const struct ab_quic_conn *c, const struct ab_dgram *d)
{
    const struct ab_quic_cid *used = ab_quic_cids_peer(&c->cids);

    return d->len >= 21 && used->has_token && ab_quic_equal(used->token, d->data + d->len - 16, 16);
}

static void not_opened(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_dgram *d, uint64_t now)
{
    c->counts.packets_undecryptable++;
    if (is_reset(c, d)) {
        ab_quic_conn_end(q, c, AB_QUIC_CLOSE_RESET, false, 0, 0, "stateless reset", 15, now);
        return;
    }
    /* RFC 9001 6.6 */
    if (++c->keys.failed >= c->keys.fail_limit)
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_AEAD_LIMIT_REACHED, 0, "too many packets that could not be opened", now);
}

/* The peer's key phase has changed: its next key is the present one now. 0 or an error. */
static int key_update(struct ab_quic *q, struct ab_quic_conn *c, uint64_t pn, uint64_t now)
{
    struct ab_quic_keys *k = &c->keys;

    /* RFC 9001 6.1, 6.2: a second update without an acknowledgement of the first. Mostly there is no key for it yet,
     * and the packet is not opened; where the peer took longer than that, nothing was sealed with ours that it could
     * have waited for. */
    if (k->tx_generation && k->tx_generation == k->rx_generation && k->sealed == 0)
        return AB_QUIC_ERROR_KEY_UPDATE;
    ab_quic_keys_advance_rx(k, pn, now + 3 * ab_quic_conn_pto(c));
    k->update_after = now + AB_MAX(3 * (ab_quic_conn_pto(c) + c->ack.max_delay_ns), AB_QUIC_UPDATE_GAP_NS);
    c->counts.key_updates++;
    if (k->tx_generation != k->rx_generation) {
        if (ab_quic_keys_advance_tx(k, &q->crypto, c->sent.next))
            return AB_QUIC_ERROR_INTERNAL;
        c->counts.key_updates++;
        c->update_ours = false;
        c->update_pn = k->rx_generation;
        ab_quic_owe(q, c, AB_QUIC_OWED_KEY_UPDATE);
        ab_quic_event_keys(q, c, true);
    }
    ab_quic_event_keys(q, c, false);
    return 0;
}

/* RFC 9000 9.3: the peer goes on from another address. The old one stays until the new one is validated. */
static void migrate(struct ab_quic *q, struct ab_quic_conn *c, const struct incoming *in, uint64_t now)
{
    struct ab_quic_path *active = &c->paths[AB_QUIC_PATH_ACTIVE], *former = &c->paths[AB_QUIC_PATH_FORMER];
    struct ab_quic_path *aside = &c->paths[AB_QUIC_PATH_ASIDE];
    /* 8.2.4: three times the PTO that we know, or that of a path of which nothing is known, the larger one. */
    uint64_t until = now + 3 * AB_MAX(ab_quic_conn_pto(c), 3 * AB_QUIC_RTT_INITIAL_NS), retire;
    bool same_host = memcmp(active->to.remote, in->d->src, 16) == 0;

    if (former->used && ab_quic_path_same(&former->to, in->d)) {
        /* Back to where it was: that address is validated already. */
        struct ab_quic_path back = *former;

        *former = *active;
        *active = back;
        former->used = false;
        former->respond = false;
        former->again_ns = former->until_ns = UINT64_MAX;
    } else {
        if (active->validated) {
            *former = *active;
            former->respond = false;
        }
        ab_quic_path_open(active, &former->to, in->d);
        active->received = in->d->len;
        if (aside->used && ab_quic_path_same(&aside->to, in->d)) {
            /* It has asked from there before, or in this packet: one address, one allowance. */
            active->received += aside->received;
            active->sent = aside->sent;
            active->respond = aside->respond;
            memcpy(active->response, aside->response, sizeof(active->response));
            aside->used = aside->respond = false;
        }
        ab_quic_path_challenge(active, ab_quic_random(q), now, until);
        /* 9.3.3: a packet that somebody copied and sent on must not move us for long: ask the old one too. */
        ab_quic_path_challenge(former, ab_quic_random(q), now, until);
    }
    active->to.generation++;
    /* 9.4: a changed port is mostly a NAT, and the path behind it the same. */
    if (!same_host)
        ab_quic_conn_reset_path(q, c, now);
    /* 9.5: who has taken a new connection ID of ours for it gets one of its own, so that nobody can link the two. */
    if (in->cid_seq != c->cid_seq && ab_quic_control_room(q, c) && ab_quic_cids_rotate(&c->cids, &retire)) {
        struct ab_quic_frame f = {.type = AB_QUIC_FRAME_RETIRE_CONNECTION_ID, .retire_cid = {.sequence = retire}};

        if (ab_quic_control_push(q, c, &f) == 0)
            ab_quic_owe(q, c, AB_QUIC_OWED_PEER_CIDS);
    }
}

static void challenged(struct ab_quic *q, struct ab_quic_conn *c, const struct incoming *in, const uint8_t *data)
{
    struct ab_quic_path *p = &c->paths[AB_QUIC_PATH_ACTIVE];

    /* 8.2.2: the answer goes where the question came from, once for each; of a flood only the last is answered. */
    for (uint32_t i = 0; i < AB_QUIC_PATHS; i++)
        if (c->paths[i].used && ab_quic_path_same(&c->paths[i].to, in->d)) {
            p = &c->paths[i];
            goto found;
        }
    p = &c->paths[AB_QUIC_PATH_ASIDE];
    ab_quic_path_open(p, &c->paths[AB_QUIC_PATH_ACTIVE].to, in->d);
found:
    memcpy(p->response, data, 8);
    p->respond = true;
    ab_quic_conn_ready(q, c);
}

static void responded(struct ab_quic *q, struct ab_quic_conn *c, const uint8_t data[8], uint64_t now)
{
    /* 8.2.3: whatever path it came by. */
    for (uint32_t i = 0; i < AB_QUIC_PATHS; i++) {
        struct ab_quic_path *p = &c->paths[i];
        bool known = p->validated; /* this answer proves its size only, or that we are back */

        if (!ab_quic_path_answered(p, data))
            continue;
        if (i == AB_QUIC_PATH_ACTIVE) {
            c->counts.migrations += !known;
            c->paths[AB_QUIC_PATH_FORMER].used = false;
            c->paths[AB_QUIC_PATH_FORMER].challenging = false;
            c->paths[AB_QUIC_PATH_FORMER].again_ns = c->paths[AB_QUIC_PATH_FORMER].until_ns = UINT64_MAX;
            /* 8.2.1: where the challenge could not be expanded, the path's size is not proven yet. */
            if (p->small) {
                ab_quic_path_challenge(p, ab_quic_random(q), now, now + 3 * ab_quic_conn_pto(c));
            }
            if (!known)
                ab_quic_owe(q, c, AB_QUIC_OWED_MIGRATED);
        }
        ab_quic_conn_ready(q, c);
    }
}

static int new_cid(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    uint64_t retire[AB_QUIC_CIDS_MAX + 1];
    uint32_t count;
    int rc;

    /* Where others have taken all slots, this one's answers could not be written down: no crime of the peer's. */
    if (ab_unlikely(ab_quic_slots_left(&q->slots) <= AB_QUIC_CIDS_MAX))
        return AB_QUIC_NO_ROOM;
    rc = ab_quic_cids_new(&c->cids, f, retire, &count);
    ab_quic_owe(q, c, AB_QUIC_OWED_PEER_CIDS);
    for (uint32_t i = 0; i < count && rc == 0; i++) {
        struct ab_quic_frame answer = {.type = AB_QUIC_FRAME_RETIRE_CONNECTION_ID, .retire_cid = {retire[i]}};

        rc = ab_quic_control_push(q, c, &answer);
    }
    return rc;
}

static int retire_cid(struct ab_quic *q, struct ab_quic_conn *c, const struct incoming *in,
                      const struct ab_quic_frame *f, uint64_t now)
{
    uint32_t index;
    int rc = ab_quic_cids_retire(&c->cids, f->retire_cid.sequence, in->cid_seq, now + 3 * ab_quic_conn_pto(c), &index);

    if (rc || index == AB_QUIC_CIDS_MAX)
        return rc;
    ab_quic_conn_bury(q, c, false, now);
    ab_quic_owe(q, c, AB_QUIC_OWED_OUR_CIDS);
    return ab_quic_conn_announce(q, c);
}

static void token(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_frame *f)
{
    struct ab_quic_event e = {.kind = AB_QUIC_EVENT_TOKEN, .length = f->blob.len};

    /* One that is too long to be handed on is let go: nothing but a round trip is lost with it. */
    if (f->blob.len <= AB_QUIC_EVENT_BYTES - sizeof(e))
        ab_quic_event_queue(q, c, &e, f->blob.data);
}

/* Raises a limit and lets go what waited for it. */
static void raise_limit(struct ab_quic *q, struct ab_quic_conn *c, uint64_t *limit, uint64_t value)
{
    if (value > *limit) {
        *limit = value;
        ab_quic_conn_ready(q, c);
    }
}

/* Applies one frame: 0, AB_QUIC_NO_ROOM, or the error that the connection dies of. */
static int frame(struct ab_quic *q, struct ab_quic_conn *c, const struct incoming *in, const struct ab_quic_frame *f,
                 uint64_t now)
{
    switch (f->type) {
    case AB_QUIC_FRAME_PADDING:
    case AB_QUIC_FRAME_PING:
        return 0;
    case AB_QUIC_FRAME_DATA_BLOCKED:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_BIDI:
    case AB_QUIC_FRAME_STREAMS_BLOCKED_UNI:
        ab_quic_in_blocked(q, c, f);
        return 0;
    case AB_QUIC_FRAME_ACK:
    case AB_QUIC_FRAME_ACK_ECN:
        return ab_quic_in_ack(q, c, f, in->generation, now);
    case AB_QUIC_FRAME_RESET_STREAM:
        return ab_quic_in_reset(q, c, f);
    case AB_QUIC_FRAME_STOP_SENDING:
        return ab_quic_in_stop(q, c, f);
    case AB_QUIC_FRAME_CRYPTO:
        return ab_quic_in_crypto(q, c, f);
    case AB_QUIC_FRAME_NEW_TOKEN:
        token(q, c, f);
        return 0;
    case AB_QUIC_FRAME_MAX_DATA:
        raise_limit(q, c, &c->tx_limit, f->limit.value);
        return 0;
    case AB_QUIC_FRAME_MAX_STREAM_DATA:
        return ab_quic_in_max_stream_data(q, c, f);
    case AB_QUIC_FRAME_MAX_STREAMS_BIDI:
        raise_limit(q, c, &c->bidi_limit, f->limit.value);
        return 0;
    case AB_QUIC_FRAME_MAX_STREAMS_UNI:
        raise_limit(q, c, &c->uni_limit, f->limit.value);
        return 0;
    case AB_QUIC_FRAME_STREAM_DATA_BLOCKED:
        return ab_quic_in_stream_blocked(q, c, f);
    case AB_QUIC_FRAME_NEW_CONNECTION_ID:
        return new_cid(q, c, f);
    case AB_QUIC_FRAME_RETIRE_CONNECTION_ID:
        return retire_cid(q, c, in, f, now);
    case AB_QUIC_FRAME_PATH_CHALLENGE:
        challenged(q, c, in, f->path.data);
        return 0;
    case AB_QUIC_FRAME_PATH_RESPONSE:
        responded(q, c, f->path.data, now);
        return 0;
    case AB_QUIC_FRAME_HANDSHAKE_DONE:
        ab_quic_conn_confirm(q, c);
        return 0;
    case AB_QUIC_FRAME_CLOSE:
    case AB_QUIC_FRAME_CLOSE_APP:
        ab_quic_conn_end(q, c, AB_QUIC_CLOSE_PEER, f->type == AB_QUIC_FRAME_CLOSE_APP, f->close.code,
                         f->type == AB_QUIC_FRAME_CLOSE ? f->close.frame_type : 0, (const char *)f->close.reason,
                         f->close.len, now);
        return 0;
    case AB_QUIC_FRAME_DATAGRAM:
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        /* RFC 9221 3: one that we have not asked for, or larger than we have said. */
        return f->size > c->our_max_datagram ? AB_QUIC_ERROR_PROTOCOL_VIOLATION : 0; /* told by tell_datagrams */
    default:
        return ab_quic_in_stream(q, c, f);
    }
}

/* The DATAGRAMs of a packet are told last, when nothing can keep the packet any more from being acknowledged: a copy of
 * it that comes later is then known for one, and they are not told twice. */
static void tell_datagrams(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_reader r)
{
    struct ab_quic_frame f;

    while (r.p < r.end && ab_quic_frame_next(&r, c->server, &f) == 0)
        if ((f.type | 1) == AB_QUIC_FRAME_DATAGRAM_LEN) {
            c->counts.datagrams_received++;
            q->sink.datagram(q->sink.ctx, c, f.blob.data, f.blob.len);
        }
}

static void opened(struct ab_quic *q, const struct incoming *in, const uint8_t *payload, uint32_t len, uint64_t now)
{
    struct ab_quic_conn *c = in->conn;
    struct ab_quic_reader r = {payload, payload + len};
    struct ab_quic_frame f;
    uint8_t first = in->d->data[0];
    bool eliciting = false, probing = true, refused = false, datagrams = false, moves = false;
    bool here, newest;
    int rc;

    here = ab_quic_path_same(&c->paths[AB_QUIC_PATH_ACTIVE].to, in->d);
    /* RFC 9000 9: a client's peer does not move. Nothing of the packet counts, neither its key phase nor its errors: we
     * would owe an answer, and give none. */
    if (ab_unlikely(!here && !c->server))
        return;
    /* RFC 9000 17.3.1: reserved bits, only now that the packet is authentic. */
    if (ab_unlikely(first & 0x18)) {
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_PROTOCOL_VIOLATION, 0, "reserved bits", now);
        return;
    }
    if (ab_unlikely(ab_quic_ack_seen(&c->ack, in->pn))) {
        c->counts.packets_duplicate++;
        return;
    }
    if (ab_unlikely(in->generation != c->keys.rx_generation)) {
        if (in->generation == c->keys.rx_generation + 1) {
            /* RFC 9001 6.4: no older key for a higher number; so no newer one for a lower. */
            if (c->ack.count && in->pn < c->rx_phase_last) {
                ab_quic_conn_error(q, c, AB_QUIC_ERROR_KEY_UPDATE, 0, "newer key on an older packet", now);
                return;
            }
            rc = key_update(q, c, in->pn, now);
            if (rc) {
                ab_quic_conn_error(q, c, (uint64_t)rc, 0, "key update", now);
                return;
            }
        } else if (in->pn > c->keys.rx_first) {
            ab_quic_conn_error(q, c, AB_QUIC_ERROR_KEY_UPDATE, 0, "older key on a newer packet", now);
            return;
        }
    } else if (in->pn < c->keys.rx_first) {
        c->keys.rx_first = in->pn;
    }
    if (in->generation == c->keys.rx_generation)
        c->rx_phase_last = AB_MAX(c->rx_phase_last, in->pn);
    newest = c->ack.count == 0 || in->pn > ab_quic_ack_largest(&c->ack);
    c->counts.packets_received++;
    c->counts.bytes_received += in->d->len;
    if (ab_unlikely(!c->paths[AB_QUIC_PATH_ACTIVE].validated && here))
        c->paths[AB_QUIC_PATH_ACTIVE].received += in->d->len;
    c->idle_from_ns = now;
    c->unpaired = false;
    if (ab_quic_qlog_on(c))
        ab_quic_qlog_packet(q, c, AB_QUIC_QLOG_RECEIVED, in->pn, in->generation, payload, len, in->d->len, now);
    do {
        rc = ab_quic_frame_next(&r, c->server, &f);
        if (ab_likely(rc == 0)) {
            eliciting |= ab_quic_frame_is(f.type, AB_QUIC_ACK_ELICITING);
            probing &= ab_quic_frame_is(f.type, AB_QUIC_PROBING);
            datagrams |= (f.type | 1) == AB_QUIC_FRAME_DATAGRAM_LEN;
            rc = frame(q, c, in, &f, now);
        }
        if (ab_unlikely(rc)) {
            if (rc > 0) {
                ab_quic_conn_error(q, c, (uint64_t)rc, f.type, "", now);
                return;
            }
            /* AB_QUIC_NO_ROOM: not acknowledged, so it comes again. The others are taken all the same: what they bring
             * may be what makes room. */
            refused = true;
        }
        if (ab_unlikely(!ab_quic_conn_open(c)))
            return;
    } while (r.p < r.end);
    if (ab_unlikely(!here) && newest && !probing && !refused)
        moves = true;
    else if (ab_unlikely(!here) && c->paths[AB_QUIC_PATH_ASIDE].used &&
             ab_quic_path_same(&c->paths[AB_QUIC_PATH_ASIDE].to, in->d))
        c->paths[AB_QUIC_PATH_ASIDE].received += in->d->len; /* once, however often it asks */
    if (ab_unlikely(refused))
        return;
    ab_quic_ack_add(&c->ack, in->pn, eliciting, in->d->tos & 3, now);
    if (ab_unlikely(datagrams))
        tell_datagrams(q, c, (struct ab_quic_reader){payload, payload + len});
    /* Also where we have said that we do not take part in migration: mostly it is a NAT that has forgotten, of which
     * the peer knows nothing; RFC 9000 9 lets us choose between following and being deaf. */
    if (ab_unlikely(moves))
        migrate(q, c, in, now);
    if (newest)
        c->cid_seq = in->cid_seq;
}

/* Which connection a datagram is for; NULL: none, or nothing to be done with it. */
static struct ab_quic_conn *owner(struct ab_quic *q, struct ab_dgram *d, uint8_t *mine, uint64_t *seq, uint64_t now)
{
    const struct ab_quic_hashed *h;
    struct ab_quic_conn *c;
    uint64_t key;

    q->totals.rx_datagrams++;
    /* 1 first byte, connection ID, then at least 4 bytes of number and payload, and the tag. */
    if (ab_unlikely(d->len < 1 + AB_CID_LEN + AB_QUIC_PN_BYTES + AB_QUIC_TAG_BYTES || d->data[0] & 0x80)) {
        q->totals.rx_malformed++;
        return NULL;
    }
    memcpy(&key, d->data + 1, sizeof(key));
    h = ab_quic_table_get(&q->by_cid, key);
    if (!h) {
        q->totals.rx_unknown++;
        return NULL;
    }
    c = &q->conns[h->conn];
    if (ab_unlikely(c->cids.ours[h->cid].until - 1 < now)) { /* 0: not retired; else its time is over */
        ab_quic_conn_bury(q, c, false, now);
        q->totals.rx_unknown++;
        return NULL;
    }
    if (mine)
        *mine = 1;
    *seq = c->cids.ours[h->cid].cid.seq;
    if (ab_likely(ab_quic_conn_open(c))) {
        if (ab_unlikely(!(d->data[0] & 0x40))) { /* RFC 9000 17.3.1: the fixed bit */
            q->totals.rx_malformed++;
            return NULL;
        }
        return c;
    }
    /* RFC 9000 10.2.1: who goes on sending hears again that it is over, ever more rarely. */
    if (c->state == AB_QUIC_STATE_CLOSING && now >= c->repeat_ns) {
        c->close_due = true;
        c->repeat_gap_ns *= 2;
        c->repeat_ns = now + c->repeat_gap_ns;
        ab_quic_conn_ready(q, c);
    }
    return NULL;
}

static void batch(struct ab_quic *q, struct ab_dgram *d, uint8_t *mine, uint32_t count, uint64_t now)
{
    struct incoming in[AB_QUIC_BATCH];
    struct ab_quic_op ops[AB_QUIC_BATCH];
    uint32_t n = 0, m = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct ab_quic_conn *c = owner(q, &d[i], mine ? &mine[i] : NULL, &in[n].cid_seq, now);

        if (!c)
            continue;
        in[n].conn = c;
        in[n].d = &d[i];
        ops[n].hp = &c->keys.rx_hp;
        ops[n].packet = d[i].data;
        ops[n].len = d[i].len;
        ops[n].number_off = 1 + AB_CID_LEN;
        n++;
    }
    if (n == 0)
        return;
    ab_quic_unprotect_batch(&q->crypto, ops, n);
    for (uint32_t i = 0; i < n; i++) {
        struct ab_quic_conn *c = in[i].conn;
        enum ab_quic_key_choice choice;

        if (ab_unlikely(ops[i].status))
            continue;
        in[m] = in[i];
        ops[m] = ops[i];
        ops[m].number = ab_quic_pn_decode(ab_quic_ack_expected(&c->ack), (uint32_t)ops[i].number,
                                          ops[i].header_len - ops[i].number_off);
        ops[m].key = ab_quic_keys_choose(&c->keys, ops[m].packet[0] >> 2 & 1, &choice);
        in[m].pn = ops[m].number;
        in[m].choice = (uint8_t)choice;
        in[m].generation = c->keys.rx_generation + (choice == AB_QUIC_KEY_NEXT) - (choice == AB_QUIC_KEY_FORMER);
        m++;
    }
    ab_quic_open_batch(&q->crypto, ops, m);
    for (uint32_t i = 0; i < m; i++) {
        struct ab_quic_conn *c = in[i].conn;

        if (ab_unlikely(!ab_quic_conn_open(c)))
            continue;
        if (ab_unlikely(ops[i].status))
            not_opened(q, c, in[i].d, now);
        else
            opened(q, &in[i], ops[i].packet + ops[i].header_len, ops[i].len - ops[i].header_len - AB_QUIC_TAG_BYTES,
                   now);
        ab_quic_conn_ready(q, c);
    }
}

void ab_quic_rx(struct ab_quic *q, struct ab_dgram *d, uint8_t *mine, uint32_t count, uint64_t now)
{
    if (mine)
        memset(mine, 0, count);
    for (uint32_t i = 0; i < count; i += AB_QUIC_BATCH)
        batch(q, d + i, mine ? mine + i : NULL, AB_MIN(count - i, AB_QUIC_BATCH), now);
}
