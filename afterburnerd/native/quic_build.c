#include <string.h>

#include "quic_build.h"
#include "quic_qlog.h"

/* RFC 9000 17.1: a number is to be told from its neighbours even if the packet comes after some that were sent behind
 * it. With one byte that holds for 127 of them, a tenth of a millisecond at full rate; what came later could not be
 * opened. */
#define PN_BYTES_LEAST 2u

/* CONNECTION_CLOSE may still be sealed when a key is used up: as many as can be asked for in 3 PTO, rate-limited. */
#define LAST_WORDS 256

/* An own key update where it is due (RFC 9001 6.1, 6.6). False: the key must not be used any more. */
static bool keep_key(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_keys *k = &c->keys;

    /* Where updates follow each other faster than 3 PTO, the former receiving key has to go early (6.5 allows it):
     * packets that were overtaken are lost with it, but no key is used up. */
    if (ab_unlikely(ab_quic_keys_short(k)) && k->confirmed && !k->ahead && k->tx_generation == k->rx_generation &&
        ab_quic_keys_ahead(k, &q->crypto)) {
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_INTERNAL, 0, "key derivation failed", now);
        return false;
    }
    if ((k->wanted || k->sealed >= k->update_at) && c->confirmed && ab_quic_keys_may_update(k) &&
        (now >= k->update_after || ab_quic_keys_short(k))) {
        ab_quic_seal_pending(q); /* what was built is sealed with the key that it was built for */
        if (ab_quic_keys_advance_tx(k, &q->crypto, c->sent.next)) {
            ab_quic_conn_error(q, c, AB_QUIC_ERROR_INTERNAL, 0, "key derivation failed", now);
            return false;
        }
        c->counts.key_updates++;
        c->update_pn = k->tx_generation;
        c->update_ours = true;
        ab_quic_event_keys(q, c, true);
        ab_quic_owe(q, c, AB_QUIC_OWED_KEY_UPDATE);
    }
    if (ab_unlikely(k->sealed >= k->seal_limit - AB_MIN(LAST_WORDS, k->seal_limit / 8))) {
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_AEAD_LIMIT_REACHED, 0, "key used up", now);
        return false;
    }
    return true;
}

bool ab_quic_builder_begin(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_path *path,
                           struct ab_quic_out *out, uint32_t size, struct ab_quic_builder *b, uint64_t now)
{
    const struct ab_quic_cid *dcid = ab_quic_cids_peer(&c->cids);
    uint64_t allowed = ab_quic_path_room(path);
    uint32_t bytes;
    uint8_t *p = out->data;

    size = AB_MIN(size, out->room);
    size = (uint32_t)AB_MIN(size, allowed);
    if (ab_unlikely(size < 1 + AB_QUIC_CID_BYTES + AB_QUIC_PN_BYTES + AB_QUIC_TAG_BYTES + 4))
        return false;
    if (ab_quic_conn_open(c)) {
        if (ab_unlikely(!ab_quic_sent_room(&q->blocks, &c->sent)) && !ab_quic_sent_evict(q, c, now)) {
            c->starved = true;
            return false;
        }
        if (!keep_key(q, c, now))
            return false;
        if (ab_unlikely(c->sent.next == c->next_skip)) {
            c->skipped[c->skipped_at++ % AB_QUIC_SKIPPED] = c->sent.next;
            ab_quic_sent_skip(&q->blocks, &c->sent);
            ab_quic_conn_next_skip(q, c);
        }
    }
    b->q = q;
    b->conn = c;
    b->path = path;
    b->out = out;
    b->pn = c->sent.next;
    bytes = AB_MAX(ab_quic_pn_bytes(b->pn, c->sent.largest_acked), PN_BYTES_LEAST);
    *p++ = (uint8_t)(0x40 | (c->keys.tx_generation & 1) << 2 | (bytes - 1));
    memcpy(p, dcid->cid, AB_QUIC_CID_BYTES);
    p += dcid->len;
    b->number_off = (uint16_t)(p - out->data);
    p = ab_quic_pn_put(p, b->pn, bytes);
    b->header_len = (uint16_t)(p - out->data);
    b->start = b->payload = b->p = p;
    b->end = out->data + size - AB_QUIC_TAG_BYTES;
    b->acks = 0;
    b->chain = b->chain_tail = AB_QUIC_NIL;
    b->control = 0;
    b->transactions = 0;
    b->flags = 0;
    b->eliciting = false;
    b->stalled = AB_QUIC_BLOCKED_NOT;
    out->ecn = 0;
    out->probe = false;
    return true;
}

void ab_quic_builder_finish(struct ab_quic_builder *b, uint64_t now)
{
    struct ab_quic *q = b->q;
    struct ab_quic_conn *c = b->conn;
    struct ab_quic_out *out = b->out;
    struct ab_quic_op *op = &q->ops[q->sealing++];

    /* RFC 9001 5.4.2: the sample begins 4 bytes behind the place of the number, and takes 16. */
    while (b->p - out->data < b->number_off + AB_QUIC_PN_BYTES)
        *b->p++ = AB_QUIC_FRAME_PADDING;
    out->len = (uint32_t)(b->p - out->data) + AB_QUIC_TAG_BYTES;
    out->conn = c;
    out->path = &b->path->to;
    op->key = &c->keys.tx;
    op->hp = &c->keys.tx_hp;
    op->packet = out->data;
    op->payload = b->start;
    op->number = b->pn;
    op->len = (uint32_t)(b->p - b->start);
    op->header_len = b->header_len;
    op->number_off = b->number_off;
    if (ab_quic_qlog_on(c))
        ab_quic_qlog_packet(q, c, AB_QUIC_QLOG_SENT, b->pn, c->keys.tx_generation, b->start, op->len, out->len, now);
    c->keys.sealed++;
    c->counts.packets_sent++;
    c->counts.bytes_sent += out->len;
    q->totals.tx_datagrams++;
    if (ab_unlikely(!b->path->validated))
        b->path->sent += out->len;
    if (ab_quic_conn_open(c)) {
        struct ab_quic_sent_packet *p = ab_quic_sent_add(&q->blocks, &c->sent);

        p->sent_ns = now;
        p->chain = b->chain;
        p->control = b->control;
        /* What went elsewhere says nothing of the path in use, neither by its time nor by its loss. */
        p->path = c->path_epoch - (b->path != &c->paths[AB_QUIC_PATH_ACTIVE]);
        p->size = (uint16_t)out->len;
        if (b->eliciting) {
            p->acks = b->acks;
            p->state = AB_QUIC_SENT_OUTSTANDING;
            p->flags = (uint8_t)(b->flags | AB_QUIC_SENT_ELICITING | AB_QUIC_SENT_IN_FLIGHT);
            ab_quic_cc_sent(&c->cc, out->len, ab_quic_conn_pto(c), now);
            ab_quic_pacer_sent(&c->pacer, out->len);
            out->ecn = ab_quic_ecn_mark(&c->ecn, ab_quic_conn_pto(c), now);
            if (out->ecn)
                p->flags |= AB_QUIC_SENT_ECT;
            c->sent.outstanding++;
            c->eliciting_ns = now;
            c->acks_alone = 0;
            c->probes -= c->probes != 0;
            if (!c->unpaired) { /* RFC 9000 10.1: the first one sent since the last one that came */
                c->unpaired = true;
                c->idle_from_ns = now;
            }
        } else {
            /* Nobody will hear of it again: nothing to remember. */
            p->state = AB_QUIC_SENT_NONE;
            p->jump = b->pn;
            p->flags = 0;
        }
    } else {
        c->sent.next++;
    }
    if (q->sealing == AB_QUIC_BATCH)
        ab_quic_seal_pending(q);
}

bool ab_quic_build_path(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_path *path, struct ab_quic_out *out,
                        uint64_t now)
{
    struct ab_quic_builder b;

    if (!path->used || !ab_quic_builder_begin(q, c, path, out, AB_QUIC_PATH_BYTES, &b, now))
        return false;
    if (path->respond) {
        *b.p++ = AB_QUIC_FRAME_PATH_RESPONSE;
        memcpy(b.p, path->response, 8);
        b.p += 8;
        path->respond = false;
    }
    if (path->challenging && path->again_ns <= now && ab_quic_builder_room(&b) >= 9) {
        *b.p++ = AB_QUIC_FRAME_PATH_CHALLENGE;
        memcpy(b.p, path->challenge, 8);
        b.p += 8;
        path->tries++;
        path->small = (uint32_t)(b.end - out->data) + AB_QUIC_TAG_BYTES < AB_QUIC_PATH_BYTES;
        path->again_ns =
            path->tries < AB_QUIC_CHALLENGE_TRIES ? now + (ab_quic_conn_pto(c) << path->tries) / 2 : UINT64_MAX;
    } else if (path->again_ns <= now && !path->challenging) {
        path->again_ns = UINT64_MAX;
    }
    memset(b.p, 0, (size_t)(b.end - b.p));
    b.p = b.end;
    /* It demands an ACK, but neither its loss nor its round trip says anything of the path in use: not in flight. */
    ab_quic_builder_finish(&b, now);
    return true;
}

bool ab_quic_build_close(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_out *out, uint64_t now)
{
    struct ab_quic_frame f = {.type = c->close_app ? AB_QUIC_FRAME_CLOSE_APP : AB_QUIC_FRAME_CLOSE};
    struct ab_quic_builder b;
    struct ab_quic_writer w;
    uint32_t most;

    if (!ab_quic_builder_begin(q, c, &c->paths[AB_QUIC_PATH_ACTIVE], out, c->mtu.size, &b, now))
        return false;
    most = ab_quic_builder_room(&b);
    f.close.code = c->close_code;
    f.close.frame_type = c->close_frame;
    f.close.reason = (const uint8_t *)c->close_reason;
    f.close.len = most > 32 ? AB_MIN(c->close_len, most - 32) : 0;
    w = (struct ab_quic_writer){b.p, b.end};
    if (!ab_quic_frame_write(&w, &f))
        return false;
    b.p = w.p;
    c->close_due = false;
    ab_quic_builder_finish(&b, now);
    return true;
}
