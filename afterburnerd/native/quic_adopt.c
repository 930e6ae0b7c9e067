/* Adoption: a connection whose handshake others have made becomes the engine's (ARCHITECTURE.md, "Adoption"), and what
 * the supervisor adds to it later: connection IDs, paths. */
#include <string.h>

#include "quic_conn.h"

/* What an adoption takes at once: CRYPTO, ranges of 0-RTT, connection IDs. It may take them from the reserve. */
#define ADOPT_SLOTS 16

static uint64_t least(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0)
        return a ? a : b;
    return AB_MIN(a, b);
}

static enum ab_quic_refusal check(struct ab_quic *q, const struct ab_quic_adopt *a)
{
    if (q->closing)
        return AB_QUIC_REFUSED_CLOSING;
    if (q->conn_count == q->config.connections)
        return AB_QUIC_REFUSED_FULL;
    if (a->version != 1)
        return AB_QUIC_REFUSED_VERSION;
    if (a->suite < AB_QUIC_AES128_GCM || a->suite > AB_QUIC_CHACHA20_POLY1305)
        return AB_QUIC_REFUSED_SUITE;
    if (a->local_tparams_len > AB_QUIC_TPARAMS || a->remote_tparams_len > AB_QUIC_TPARAMS ||
        a->crypto_len > AB_QUIC_CRYPTO || a->early_count > AB_QUIC_EARLY || a->role > AB_QUIC_SERVER ||
        a->next_pn >= AB_QUIC_VARINT_MAX)
        return AB_QUIC_REFUSED_LENGTH;
    if (a->local_count < 1 || a->local_count > AB_QUIC_CIDS || a->peer_count < 1 || a->peer_count > AB_QUIC_CIDS)
        return AB_QUIC_REFUSED_CIDS;
    if ((a->path.family != 4 && a->path.family != 6) || a->path.remote_port == 0)
        return AB_QUIC_REFUSED_PATH;
    if (a->id == 0 || ab_quic_table_get(&q->by_id, a->id))
        return AB_QUIC_REFUSED_DUPLICATE;
    for (uint32_t i = 0; i < a->local_count; i++)
        if (ab_quic_table_get(&q->by_cid, ab_quic_cid_key(&a->local_cids[i])))
            return AB_QUIC_REFUSED_DUPLICATE;
    return AB_QUIC_REFUSED_NONE;
}

/* Everything that was agreed on in the handshake. */
static void limits(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_adopt *a,
                   const struct ab_quic_tparams *ours, const struct ab_quic_tparams *peers, uint64_t now)
{
    uint64_t hint = a->rtt_hint_ns, idle = least(ours->max_idle_timeout_ms, peers->max_idle_timeout_ms);

    c->early_uni = a->early_accepted ? a->early_uni : 0;
    c->uni_limit = peers->initial_max_streams_uni;
    c->bidi_limit = peers->initial_max_streams_bidi;
    c->tx_limit = peers->initial_max_data;
    c->uni_stream_limit = peers->initial_max_stream_data_uni;
    c->peer_bidi_local = peers->initial_max_stream_data_bidi_local;
    c->peer_bidi_remote = peers->initial_max_stream_data_bidi_remote;
    c->data_blocked_at = c->uni_blocked_at = c->bidi_blocked_at = UINT64_MAX;

    c->uni_in.limit = ours->initial_max_streams_uni;
    c->uni_in.credit = (uint32_t)ours->initial_max_streams_uni;
    c->uni_in.mask = q->config.uni_window - 1;
    c->bidi_in.limit = ours->initial_max_streams_bidi;
    c->bidi_in.credit = (uint32_t)ours->initial_max_streams_bidi;
    c->bidi_in.mask = q->config.bidi_window - 1;
    memset(c->uni_in.bits, 0, q->config.uni_window / 8);
    memset(c->bidi_in.bits, 0, q->config.bidi_window / 8);
    c->rx_limit = ours->initial_max_data;
    c->rx_window = (uint32_t)AB_MIN(ours->initial_max_data, UINT32_MAX);
    c->uni_window = (uint32_t)AB_MIN(ours->initial_max_stream_data_uni, UINT32_MAX);
    c->our_bidi_local = AB_MIN(ours->initial_max_stream_data_bidi_local, UINT32_MAX);
    c->our_bidi_remote = AB_MIN(ours->initial_max_stream_data_bidi_remote, UINT32_MAX);

    c->peer_max_datagram = peers->max_datagram_frame_size;
    c->our_max_datagram = ours->max_datagram_frame_size;
    c->peer_udp_payload = peers->max_udp_payload_size;
    c->exponent = peers->ack_delay_exponent;

    c->idle_ns = idle * 1000000;
    c->idle_from_ns = now;
    if (a->idle_deadline_ns && c->idle_ns) /* the handshake's last packet is when it counts from */
        c->idle_from_ns = a->idle_deadline_ns > c->idle_ns ? AB_MIN(now, a->idle_deadline_ns - c->idle_ns) : 0;
    /* Up to a half sooner, each connection by a share of its own: of thousands that were adopted together all PINGs
     * would be due together, again and again, and what is to be sent on one of them would wait behind those of all. */
    c->keep_alive_ns = q->config.keep_alive_ms * 1000000ULL;
    c->keep_alive_ns -= c->keep_alive_ns / 8192 * (c->index * 0x9e3779b1u >> 20);

    ab_quic_ack_init(&c->ack, AB_MIN(q->config.ack_threshold, AB_QUIC_ACK_THRESHOLD),
                     ours->max_ack_delay_ms * 1000000ULL, ours->ack_delay_exponent);
    ab_quic_rtt_init(&c->rtt, hint, peers->max_ack_delay_ms * 1000000ULL);
    ab_quic_ecn_init(&c->ecn, q->config.ecn);
    ab_quic_conn_reset_path(q, c, now);
    if (hint)
        ab_quic_rtt_init(&c->rtt, hint, peers->max_ack_delay_ms * 1000000ULL);
}

static void begin(struct ab_quic_conn *c, uint32_t index)
{
    struct ab_quic_idset uni = c->uni_in, bidi = c->bidi_in;
    struct ab_quic_queue *queues[] = {&c->again, &c->controls, &c->crypto, &c->datagrams, &c->uni, &c->events};

    memset(c, 0, sizeof(*c));
    c->uni_in.bits = uni.bits;
    c->bidi_in.bits = bidi.bits;
    c->index = index;
    c->loss_ns = UINT64_MAX;
    c->send_ring = c->objects = c->crypto_in = c->early = c->ready_next = c->notify_next = AB_QUIC_NIL;
    c->credits_due = c->credits_told = (struct ab_quic_credits){AB_QUIC_NIL, AB_QUIC_NIL};
    for (uint32_t i = 0; i < AB_ARRAY_LEN(queues); i++)
        ab_quic_queue_init(queues[i]);
    for (uint32_t i = 0; i < AB_QUIC_PATHS; i++)
        c->paths[i].again_ns = c->paths[i].until_ns = UINT64_MAX;
    memset(c->skipped, 0xff, sizeof(c->skipped));
}

static struct ab_quic_conn *refuse(struct ab_quic *q, enum ab_quic_refusal *why, enum ab_quic_refusal reason)
{
    q->totals.refused++;
    q->totals.refused_full += reason == AB_QUIC_REFUSED_FULL;
    *why = reason;
    return NULL;
}

struct ab_quic_conn *ab_quic_adopt(struct ab_quic *q, const struct ab_quic_adopt *a, uint64_t now,
                                   enum ab_quic_refusal *why)
{
    struct ab_quic_tparams ours, peers;
    struct ab_quic_conn *c;
    const char *text;
    bool server = a->role == AB_QUIC_SERVER;
    uint32_t index;

    *why = check(q, a);
    if (*why != AB_QUIC_REFUSED_NONE)
        return refuse(q, why, *why);
    if (ab_quic_tparams_parse(&ours, a->local_tparams, a->local_tparams_len, server, &text) ||
        ours.initial_max_streams_uni > q->config.uni_window || ours.initial_max_streams_bidi > q->config.bidi_window ||
        ours.active_connection_id_limit > AB_QUIC_CIDS)
        return refuse(q, why, AB_QUIC_REFUSED_TPARAMS);
    if (ab_quic_tparams_parse(&peers, a->remote_tparams, a->remote_tparams_len, !server, &text))
        return refuse(q, why, AB_QUIC_REFUSED_PEER_TPARAMS);
    if (q->blocks.used == q->blocks.total || ab_quic_slots_left(&q->slots) < ADOPT_SLOTS)
        return refuse(q, why, AB_QUIC_REFUSED_FULL);

    index = q->free_conns[q->config.connections - 1 - q->conn_count];
    c = &q->conns[index];
    begin(c, index);
    if (!ab_quic_cids_init(&c->cids, a, peers.active_connection_id_limit, ours.active_connection_id_limit))
        return refuse(q, why, AB_QUIC_REFUSED_CIDS);
    if (ab_quic_keys_init(&c->keys, &q->crypto, a))
        return refuse(q, why, AB_QUIC_REFUSED_CRYPTO);
    q->conn_count++;
    c->id = a->id;
    c->server = server;
    c->adopted_ns = now;
    c->keys.seal_limit =
        q->config.confidentiality_limit ? q->config.confidentiality_limit : ab_quic_confidentiality_limit(a->suite);
    c->keys.fail_limit = q->config.integrity_limit ? q->config.integrity_limit : ab_quic_integrity_limit(a->suite);
    c->keys.update_at = q->config.key_update_packets ? q->config.key_update_packets : c->keys.seal_limit / 2;
    c->paths[AB_QUIC_PATH_ACTIVE].to = a->path;
    c->paths[AB_QUIC_PATH_ACTIVE].used = true;
    c->paths[AB_QUIC_PATH_ACTIVE].validated = true;
    if (c->paths[AB_QUIC_PATH_ACTIVE].to.mtu < AB_QUIC_MTU_BASE)
        c->paths[AB_QUIC_PATH_ACTIVE].to.mtu = AB_QUIC_MTU_BASE;
    limits(q, c, a, &ours, &peers, now);
    ab_quic_sent_init(&c->sent, a->next_pn);
    c->first_pn = a->next_pn;
    ab_quic_conn_next_skip(q, c);
    c->crypto_told = a->crypto_rx_offset;
    /* RFC 9000 18.2: the reset token of the server's first connection ID is a transport parameter. */
    for (uint32_t i = 0; i < a->peer_count && peers.has_reset_token; i++)
        if (c->cids.peers[i].cid.seq == 0 && !c->cids.peers[i].cid.has_token) {
            memcpy(c->cids.peers[i].cid.token, peers.reset_token, sizeof(peers.reset_token));
            c->cids.peers[i].cid.has_token = 1;
        }
    c->cid_seq = a->local_cids[0].seq;
    for (uint32_t i = 0; i < a->local_count; i++)
        ab_quic_table_put(&q->by_cid, ab_quic_cid_key(&a->local_cids[i]), index, i);
    ab_quic_table_put(&q->by_id, a->id, index, 0);
    if (a->early_count) {
        c->early = ab_quic_slot_alloc(&q->slots);
        memcpy(ab_quic_slot_data(ab_quic_slot_at(&q->slots, c->early)), a->early, sizeof(a->early));
        c->early_count = a->early_count;
    }
    c->state = AB_QUIC_STATE_HANDSHAKE;
    if (server) /* RFC 9001 4.1.2: a server's handshake is confirmed when it is complete, and it says so */
        c->control |= AB_QUIC_CTL_HANDSHAKE_DONE;
    if (server || a->confirmed)
        ab_quic_conn_confirm(q, c);
    if (a->crypto_len)
        ab_quic_send_crypto(q, c, a->crypto, a->crypto_len);
    if (peers.has_preferred_address) { /* a server's (18.2) */
        /* RFC 9000 9.6.1: a client that stays where it is has no use for the connection ID that came with it; 5.1.2:
         * the server may give another one once it is retired. */
        struct ab_quic_frame f = {.type = AB_QUIC_FRAME_RETIRE_CONNECTION_ID, .retire_cid = {.sequence = 1}};

        ab_quic_cids_decline(&c->cids, 1);
        (void)ab_quic_control_push(q, c, &f); /* slot_reserve has room */
    }
    ab_quic_conn_announce(q, c);
    ab_quic_owe(q, c, AB_QUIC_OWED_PEER_CIDS);
    ab_quic_conn_ready(q, c);
    q->totals.adopted++;
    return c;
}

void ab_quic_conn_bury(struct ab_quic *q, struct ab_quic_conn *c, bool room, uint64_t now)
{
    for (uint32_t i; (i = ab_quic_cids_buried(&c->cids, room, now)) != AB_QUIC_CIDS_MAX;) {
        ab_quic_table_del(&q->by_cid, ab_quic_cid_key(&c->cids.ours[i].cid));
        ab_quic_cids_free(&c->cids, i);
    }
}

uint32_t ab_quic_stock(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_quic_cid *cids, uint32_t count)
{
    uint32_t taken = 0;

    for (uint32_t i = 0; i < count && ab_quic_conn_open(c); i++) {
        ab_quic_conn_bury(q, c, true, 0);
        if (ab_quic_table_get(&q->by_cid, ab_quic_cid_key(&cids[i])) || !ab_quic_cids_stock(&c->cids, &cids[i]))
            continue;
        for (uint32_t k = 0; k < AB_QUIC_CIDS_MAX; k++)
            if (c->cids.ours[k].state == AB_QUIC_CID_STOCK && c->cids.ours[k].cid.seq == cids[i].seq)
                ab_quic_table_put(&q->by_cid, ab_quic_cid_key(&cids[i]), c->index, k);
        taken++;
    }
    if (taken)
        ab_quic_conn_announce(q, c);
    return taken;
}

int ab_quic_set_path(struct ab_quic *q, struct ab_quic_conn *c, const struct ab_path *path, uint64_t now)
{
    struct ab_quic_path *active = &c->paths[AB_QUIC_PATH_ACTIVE];
    uint32_t mtu = AB_MAX(path->mtu, AB_QUIC_MTU_BASE);

    (void)now;
    if (!ab_quic_conn_open(c))
        return AB_QUIC_ECLOSED;
    /* The peer may have moved on since this was written: then it is about another path. */
    if (memcmp(path->remote, active->to.remote, 16) != 0 || path->remote_port != active->to.remote_port)
        return AB_EINVAL;
    active->to = *path;
    active->to.mtu = (uint16_t)mtu;
    ab_quic_mtu_set_max(&c->mtu, (uint32_t)AB_MIN(mtu, c->peer_udp_payload));
    ab_quic_cc_set_mtu(&c->cc, c->mtu.size);
    ab_quic_conn_ready(q, c);
    return 0;
}

void ab_quic_trace(struct ab_quic *q, struct ab_quic_conn *c, uint32_t bits)
{
    bool keys = bits & 2 && !(c->trace & 2);

    c->trace = (uint8_t)bits;
    if (keys && ab_quic_conn_open(c)) {
        ab_quic_event_keys(q, c, true);
        ab_quic_event_keys(q, c, false);
    }
}
