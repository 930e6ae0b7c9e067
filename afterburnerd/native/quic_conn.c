#include <string.h>

#include "quic_conn.h"

#define CLOSE_PTOS 3              /* closing, draining: how long (RFC 9000 10.2) */
#define BLOCKED_NS 5000000000ULL  /* between two complaints of no credit, at most */
#define EXPIRE_MAX 256            /* transactions given up in one turn */
#define IDLE_PTOS 3               /* no idle timeout is shorter (RFC 9000 10.1) */
#define PTO_MAX_NS 60000000000ULL /* no probe waits longer, however many went before it in vain */

void ab_quic_conn_next_skip(struct ab_quic *q, struct ab_quic_conn *c)
{
    uint32_t every = q->config.skip_packets;

    /* Evenly between 1 and twice the average: no gap tells anything of the next one. */
    c->next_skip = every ? c->sent.next + 1 + ab_quic_random(q) % (2ULL * every) : UINT64_MAX;
}

int ab_quic_conn_announce(struct ab_quic *q, struct ab_quic_conn *c)
{
    const struct ab_quic_cid *cid;
    int rc;

    /* RFC 9000 19.15: a peer that has an empty one itself may still be given some. */
    while (ab_quic_control_room(q, c) && (cid = ab_quic_cids_announce(&c->cids)) != NULL) {
        struct ab_quic_frame f = {
            .type = AB_QUIC_FRAME_NEW_CONNECTION_ID,
            .new_cid = {
                .sequence = cid->seq, .retire_prior_to = 0, .cid = cid->cid, .token = cid->token, .len = cid->len}};

        rc = ab_quic_control_push(q, c, &f);
        if (rc)
            return rc;
    }
    if (!c->cids.low && ab_quic_cids_wanted(&c->cids)) {
        c->cids.low = true;
        ab_quic_owe(q, c, AB_QUIC_OWED_CIDS_LOW);
    }
    return 0;
}

void ab_quic_conn_confirm(struct ab_quic *q, struct ab_quic_conn *c)
{
    if (c->confirmed)
        return;
    c->confirmed = true;
    c->state = AB_QUIC_STATE_OPEN;
    if (!c->server) /* a server knows: it is with the adoption */
        ab_quic_owe(q, c, AB_QUIC_OWED_CONFIRMED);
    ab_quic_conn_ready(q, c);
}

void ab_quic_conn_reset_path(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    uint32_t max = c->paths[AB_QUIC_PATH_ACTIVE].to.mtu;

    c->path_epoch++;
    c->reorder = 3; /* kPacketThreshold (RFC 9002 6.1.1) */
    max = (uint32_t)AB_MIN(max, c->peer_udp_payload);
    ab_quic_mtu_init(&c->mtu, max, !q->config.no_mtu_discovery);
    ab_quic_cc_init(&c->cc, q->config.cc, q->config.hystart, q->config.initial_window, c->mtu.size);
    ab_quic_rtt_init(&c->rtt, 0, c->rtt.max_ack_delay_ns);
    c->pto_count = 0; /* the former path's patience, times a round trip that is not known yet, would be hours */
    ab_quic_pacer_init(&c->pacer, q->config.pacing, 0, now);
    ab_quic_ecn_new_path(&c->ecn);
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

/* Settles every message and gives back what the pools have lent. */
static void empty(struct ab_quic *q, struct ab_quic_conn *c)
{
    struct ab_quic_queue *queues[] = {&c->again, &c->controls, &c->crypto, &c->datagrams, &c->uni};

    /* What is under way first: it may point to objects. */
    ab_quic_sent_settle(q, c, AB_QUIC_OUTCOME_CLOSED);
    for (uint32_t i = 0; i < AB_ARRAY_LEN(queues); i++)
        ab_quic_queue_end(q, c, queues[i], AB_QUIC_OUTCOME_CLOSED);
    ab_quic_conn_streams_end(q, c);
}

void ab_quic_conn_end(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_close by, bool app, uint64_t code,
                      uint64_t frame, const char *reason, uint32_t len, uint64_t now)
{
    uint64_t last;

    if (!ab_quic_conn_open(c)) {
        /* On its way out already: only forgetting makes a difference. */
        if (by == AB_QUIC_CLOSE_DROPPED)
            c->end_ns = now;
        return;
    }
    c->closed_by = (uint8_t)by;
    c->close_app = app;
    c->close_code = code;
    c->close_frame = frame;
    c->close_len = AB_MIN(len, AB_QUIC_REASON);
    memcpy(c->close_reason, reason, c->close_len);
    last = CLOSE_PTOS * ab_quic_conn_pto(c);
    switch (by) {
    case AB_QUIC_CLOSE_LOCAL:
    case AB_QUIC_CLOSE_ERROR:
        c->state = AB_QUIC_STATE_CLOSING;
        c->close_due = true;
        c->end_ns = now + last;
        c->repeat_gap_ns = ab_quic_conn_pto(c) / 8;
        c->repeat_ns = now + c->repeat_gap_ns;
        break;
    case AB_QUIC_CLOSE_PEER:
    case AB_QUIC_CLOSE_RESET:
        c->state = AB_QUIC_STATE_DRAINING;
        c->end_ns = now + last;
        break;
    default: /* RFC 9000 10.1: in silence */
        c->state = AB_QUIC_STATE_DRAINING;
        c->end_ns = now;
    }
    c->closed_ns = now;
    empty(q, c);
    c->owed &= AB_QUIC_OWED_SLOTS | AB_QUIC_OWED_CONFIRMED;
    ab_quic_owe(q, c, AB_QUIC_OWED_CLOSED);
    ab_quic_conn_ready(q, c);
}

void ab_quic_conn_error(struct ab_quic *q, struct ab_quic_conn *c, uint64_t code, uint64_t frame, const char *reason,
                        uint64_t now)
{
    ab_quic_conn_end(q, c, AB_QUIC_CLOSE_ERROR, false, code, frame, reason, (uint32_t)strlen(reason), now);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static uint64_t pto_deadline(const struct ab_quic_conn *c)
{
    /* RFC 9002 6.2.1: not for a client whose handshake is not confirmed. */
    if (c->sent.outstanding == 0 || !c->confirmed || c->loss_ns != UINT64_MAX)
        return UINT64_MAX;
    /* From its last expiry where the probes could not be sent yet: it is no use to count that again at once. */
    return AB_MAX(c->eliciting_ns, c->pto_ns) + AB_MIN(ab_quic_conn_pto(c) << c->pto_count, PTO_MAX_NS);
}

static uint64_t idle_deadline(const struct ab_quic_conn *c)
{
    if (c->idle_ns == 0)
        return UINT64_MAX;
    return c->idle_from_ns + AB_MAX(c->idle_ns, IDLE_PTOS * ab_quic_conn_pto(c));
}

static uint64_t keep_alive_deadline(const struct ab_quic_conn *c)
{
    if (c->keep_alive_ns == 0 || c->sent.outstanding)
        return UINT64_MAX;
    return AB_MAX(c->idle_from_ns, c->eliciting_ns) + c->keep_alive_ns;
}

/* RFC 9000 4.1: who waits for credit and has nothing under way says so now and then; it keeps the connection alive, and
 * finds out where the path went. */
static uint64_t blocked_deadline(const struct ab_quic_conn *c)
{
    uint64_t gap = c->idle_ns ? AB_MIN(c->idle_ns / 3, BLOCKED_NS) : BLOCKED_NS;

    if ((c->blocked_by != AB_QUIC_BLOCKED_CREDIT && c->blocked_by != AB_QUIC_BLOCKED_STREAMS) || c->sent.outstanding)
        return UINT64_MAX;
    return c->eliciting_ns + AB_MAX(gap, 3 * ab_quic_conn_pto(c));
}

/* When the first of the waiting transactions is given up. Those behind it have to wait for it in any case. */
static uint64_t expiry(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    const struct ab_quic_slot *slot;

    if (c->uni.head == AB_QUIC_NIL)
        return UINT64_MAX;
    slot = ab_quic_slot_at(&q->slots, c->uni.head);
    return slot->stream == AB_QUIC_NO_STREAM && slot->expires ? slot->expires : UINT64_MAX;
}

uint64_t ab_quic_conn_deadline(const struct ab_quic *q, const struct ab_quic_conn *c)
{
    uint64_t when;

    if (!ab_quic_conn_open(c))
        return c->end_ns;
    when = AB_MIN(c->loss_ns, pto_deadline(c));
    when = AB_MIN(when, ab_quic_ack_deadline(&c->ack));
    when = AB_MIN(when, idle_deadline(c));
    when = AB_MIN(when, keep_alive_deadline(c));
    when = AB_MIN(when, blocked_deadline(c));
    when = AB_MIN(when, c->keys.former_until);
    for (uint32_t i = 0; i < AB_QUIC_PATHS; i++)
        when = AB_MIN(when, AB_MIN(c->paths[i].again_ns, c->paths[i].until_ns));
    if (c->pace_blocked) {
        uint64_t t = ab_quic_pacer_when(&c->pacer, c->mtu.size);

        when = AB_MIN(when, t);
    }
    return AB_MIN(when, expiry(q, c));
}

/* RFC 9000 9.3.2: the new address did not answer: back to the former one, if that is good; else there is none left. */
static void path_failed(struct ab_quic *q, struct ab_quic_conn *c, uint32_t index, uint64_t now)
{
    struct ab_quic_path *p = &c->paths[index], *former = &c->paths[AB_QUIC_PATH_FORMER];

    p->challenging = false;
    p->again_ns = p->until_ns = UINT64_MAX;
    if (index != AB_QUIC_PATH_ACTIVE || p->validated)
        return;
    if (!former->used) {
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_NO_VIABLE_PATH, 0, "no path could be validated", now);
        return;
    }
    *p = *former;
    p->to.generation++;
    p->challenging = false;
    p->again_ns = p->until_ns = UINT64_MAX;
    memset(former, 0, sizeof(*former));
    former->again_ns = former->until_ns = UINT64_MAX;
    ab_quic_conn_reset_path(q, c, now);
}

void ab_quic_conn_timers(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    if (!ab_quic_conn_open(c))
        return;
    if (idle_deadline(c) <= now) {
        ab_quic_conn_end(q, c, AB_QUIC_CLOSE_IDLE, false, 0, 0, "", 0, now);
        return;
    }
    if (c->keys.former_until <= now && ab_quic_keys_ahead(&c->keys, &q->crypto)) {
        ab_quic_conn_error(q, c, AB_QUIC_ERROR_INTERNAL, 0, "key derivation failed", now);
        return;
    }
    for (uint32_t i = 0; i < AB_QUIC_PATHS && ab_quic_conn_open(c); i++)
        if (c->paths[i].until_ns <= now)
            path_failed(q, c, i, now);
    if (!ab_quic_conn_open(c))
        return;
    if (c->loss_ns <= now)
        ab_quic_detect_loss(q, c, 0, false, now);
    else if (pto_deadline(c) <= now)
        ab_quic_pto(q, c, now);
    for (uint32_t n = 0; n < EXPIRE_MAX && expiry(q, c) <= now; n++)
        ab_quic_uni_expire(q, c);
    if (blocked_deadline(c) <= now) {
        if (c->uni.count && c->uni_next >= c->uni_limit)
            c->control |= AB_QUIC_CTL_STREAMS_BLOCKED_UNI;
        if (c->tx_data >= c->tx_limit)
            c->control |= AB_QUIC_CTL_DATA_BLOCKED;
        if (!c->control)
            c->control |= AB_QUIC_CTL_PING;
    }
    if (keep_alive_deadline(c) <= now)
        c->control |= AB_QUIC_CTL_PING;
}
