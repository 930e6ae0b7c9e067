/* What an end does next, drawn one action at a time, and how all of it ends. */
#include <string.h>

#include "must.h"
#include "world.h"

enum { LONGEST = 20000 };

static uint8_t buffer[LONGEST];

/* Sends `len` more bytes of flow `key`; false where there is no room now. */
static bool send_on(struct world *w, struct end *e, uint32_t key, enum ab_quic_send how, uint32_t len, bool fin)
{
    struct flow *f = &e->flows[key];
    struct ab_quic_msg m = {.how = how, .fin = fin, .data = buffer, .len = len};
    int rc;

    for (uint32_t i = 0; i < len; i++)
        buffer[i] = flow_byte(e, key, f->sent + i);
    m.stream = f->id;
    m.token = e->message_count + 1;
    if (how != AB_QUIC_SEND_STREAM && how != AB_QUIC_SEND_DATAGRAM && rng_below(&w->rng, 64) == 0)
        m.expires = w->now + rng_below(&w->rng, 200 * NET_MS);
    e->messages[e->message_count] =
        (struct message){.flow = (uint16_t)key, .outcome = DONE_NOT, .expires = m.expires != 0};
    rc = ab_quic_send(e->q, e->c, &m, w->now);
    if (rc == AB_QUIC_EFULL)
        world_tally[5]++;
    if (rc != 0)
        MUST_SAY(rc == AB_QUIC_EFULL || rc == AB_QUIC_ESTREAM || rc == AB_QUIC_ETOOLONG || rc == AB_QUIC_EABSENT,
                 "send: %d", rc);
    if (rc == AB_QUIC_ESTREAM)
        MUST_SAY(f->stopped || f->reset || how != AB_QUIC_SEND_STREAM, "stream %llu cannot be sent on",
                 (unsigned long long)f->id);
    if (rc == AB_QUIC_ETOOLONG)
        MUST_SAY(how == AB_QUIC_SEND_DATAGRAM || len > 10000, "%u bytes are too long", len);
    SIM_TELL("%12.6f %u sends %u bytes how %u flow %u fin %d: %d\n", (double)w->now / 1e9, e->index, len, how, key, fin,
             rc);
    if (rc != 0)
        return false;
    SIM_MUST(how != AB_QUIC_SEND_STREAM || m.stream == f->id);
    if (how == AB_QUIC_SEND_BIDI_OPEN || how == AB_QUIC_SEND_UNI_OPEN) {
        SIM_MUST((m.stream & 1) == e->index && !!(m.stream & 2) == (how == AB_QUIC_SEND_UNI_OPEN));
        f->id = m.stream;
    }
    e->message_count++;
    e->undone++;
    f->pending++;
    f->sent += len;
    f->fin = fin || how == AB_QUIC_SEND_UNI;
    if (f->fin && f->sent < 2 && how == AB_QUIC_SEND_UNI)
        e->short_sent++;
    return true;
}

/* A flow that has just been made up; it stays only if its first message was accepted. */
static void open_flow(struct world *w, struct end *e, enum ab_quic_send how, uint32_t len, bool fin, uint64_t id)
{
    uint32_t key = e->flow_count;

    if (key == FLOWS || e->message_count == MESSAGES)
        return;
    e->flows[key] = (struct flow){.how = how, .id = id};
    e->flow_count++;
    if (send_on(w, e, key, id == UINT64_MAX ? how : AB_QUIC_SEND_STREAM, len, fin)) {
        if (e->messages[e->message_count - 1].expires && how != AB_QUIC_SEND_UNI)
            e->flows[key].failed = true; /* the rest of the stream cannot be judged */
        return;
    }
    e->flow_count--;
}

/* An own flow that is still open, or FLOWS. */
static uint32_t open_one(struct world *w, struct end *e)
{
    uint32_t at = e->flow_count ? (uint32_t)rng_below(&w->rng, e->flow_count) : 0;

    for (uint32_t i = 0; i < e->flow_count && i < 64; i++, at = (at + 1) % e->flow_count) {
        const struct flow *f = &e->flows[at];

        if (f->how != AB_QUIC_SEND_UNI && f->how != AB_QUIC_SEND_DATAGRAM && !f->fin && !f->reset && !f->stopped &&
            !f->failed)
            return at;
    }
    return FLOWS;
}

/* The other end's bidirectional stream that this one has not answered, or UINT64_MAX. */
static uint64_t unanswered(struct world *w, struct end *e)
{
    uint32_t type = !e->index;

    for (uint32_t n = 0; n < e->in_room[type] && n < 256; n++) {
        uint64_t id = (uint64_t)n << 2 | type;
        bool mine = false;

        if (e->in[type][n].next < 2 || e->in[type][n].reset)
            continue;
        for (uint32_t k = 0; k < e->flow_count; k++)
            mine |= e->flows[k].id == id;
        if (!mine)
            return id;
    }
    (void)w;
    return UINT64_MAX;
}

/* Asks the other end to stop a stream that is still coming. */
static void stop_one(struct world *w, struct end *e)
{
    struct end *sender = &w->end[!e->index];

    for (uint32_t k = 0; k < sender->flow_count; k++) {
        struct flow *f = &sender->flows[k];

        if (f->how == AB_QUIC_SEND_DATAGRAM || f->id == UINT64_MAX || f->got < 2 || f->got_fin || f->stopped ||
            f->reset || f->failed)
            continue;
        if (ab_quic_stop_sending(e->q, e->c, f->id, rng_below(&w->rng, 1000)) == 0) {
            f->stopped = true;
            world_tally[6]++;
            SIM_TELL("%12.6f %u stops stream %llu\n", (double)w->now / 1e9, e->index, (unsigned long long)f->id);
        }
        return;
    }
}

static uint32_t small(struct world *w)
{
    return (uint32_t)RNG_OF(&w->rng, 0, 1, 2, 17, 100, 235, 235, 235, 500, 1000, 1100, 1232);
}

/* Resets the sending side of an own stream; whether it still could be. */
static int reset_flow(struct world *w, struct end *e, uint32_t key)
{
    struct flow *f = &e->flows[key];
    int rc;

    f->reset = true; /* the fate may be told from inside */
    rc = ab_quic_reset_stream(e->q, e->c, f->id, 7);
    f->reset = rc == 0;
    SIM_TELL("%12.6f %u resets stream %llu: %d\n", (double)w->now / 1e9, e->index, (unsigned long long)f->id, rc);
    return rc;
}

/* The plan is over: what is still open gets its end, as far as there is room now. A stream of which a part expired is
 * reset, or it would keep its credit for ever. */
static void end_streams(struct world *w, struct end *e)
{
    for (uint32_t k = 0; k < e->flow_count && e->message_count < MESSAGES; k++) {
        const struct flow *f = &e->flows[k];

        if (f->how == AB_QUIC_SEND_UNI || f->how == AB_QUIC_SEND_DATAGRAM || f->fin || f->reset || f->stopped)
            continue;
        if (f->failed ? reset_flow(w, e, k) == AB_QUIC_EFULL : !send_on(w, e, k, AB_QUIC_SEND_STREAM, 0, true))
            return;
    }
    e->ended = true;
}

void plan_act(struct world *w, struct end *e)
{
    uint32_t which = (uint32_t)rng_below(&w->rng, 100), key;
    uint32_t before = e->message_count;
    uint64_t id;

    e->next_action = w->now + rng_below(&w->rng, 2 * e->action_gap + 1);
    if (e->actions == 1 && !e->ended) { /* the last one: until it is done */
        end_streams(w, e);
        e->next_action = w->now + NET_MS;
        e->actions -= e->ended;
        return;
    }
    /* A fuzzer's plan is over with its input: what would follow is what follows all others. */
    if (e->message_count == MESSAGES || e->flow_count == FLOWS || (w->rng.choices && w->rng.left < 2)) {
        e->actions = 1;
        return;
    }
    e->actions--;
    if (which < 55) {
        open_flow(w, e, AB_QUIC_SEND_UNI, small(w), true, UINT64_MAX);
    } else if (which < 63) {
        open_flow(w, e, AB_QUIC_SEND_UNI, (uint32_t)rng_between(&w->rng, 1200, 12000), true, UINT64_MAX);
    } else if (which < 70) {
        open_flow(w, e, AB_QUIC_SEND_DATAGRAM, (uint32_t)rng_between(&w->rng, 2, 1100), false, UINT64_MAX);
    } else if (which < 76) {
        open_flow(w, e, AB_QUIC_SEND_BIDI_OPEN, (uint32_t)rng_between(&w->rng, 2, 3000), rng_below(&w->rng, 2),
                  UINT64_MAX);
    } else if (which < 79) {
        open_flow(w, e, AB_QUIC_SEND_UNI_OPEN, (uint32_t)rng_between(&w->rng, 2, 3000), rng_below(&w->rng, 2),
                  UINT64_MAX);
    } else if (which < 90) {
        key = open_one(w, e);
        if (key < FLOWS)
            send_on(w, e, key, AB_QUIC_SEND_STREAM, (uint32_t)RNG_OF(&w->rng, 0, 1, 100, 1000, 5000),
                    rng_below(&w->rng, 3) == 0);
    } else if (which < 94) {
        id = unanswered(w, e);
        if (id != UINT64_MAX)
            open_flow(w, e, AB_QUIC_SEND_BIDI_OPEN, (uint32_t)rng_between(&w->rng, 2, 3000), rng_below(&w->rng, 2), id);
    } else if (which < 95) {
        key = open_one(w, e);
        if (key < FLOWS)
            world_tally[7] += reset_flow(w, e, key) == 0;
    } else if (which < 97) {
        stop_one(w, e);
    } else if (which < 98) {
        ab_quic_ping(e->q, e->c);
    } else if (ab_quic_update_keys(e->q, e->c, w->now) == 0) {
        world_tally[8]++;
    }
    e->pushed_back = e->message_count == before && e->pushed_back;
}

/* plan_finish: everything is over; somebody says so. */
void plan_finish(struct world *w)
{
    int first = (int)rng_below(&w->rng, 2), last = w->idle_ns && !w->drop_end ? first : !first;

    if (w->closing || w->idle_end)
        return;
    w->closing = true;
    for (int i = first;; i = !i) {
        struct end *e = &w->end[i];

        if (!e->closed) {
            e->closing = true;
            e->close_app = rng_below(&w->rng, 2);
            e->close_code = e->close_app ? rng_below(&w->rng, 100) : 0;
            SIM_TELL("%12.6f %d closes\n", (double)w->now / 1e9, i);
            if (w->drop_end)
                ab_quic_drop(e->q, e->c, w->now);
            else
                ab_quic_close(e->q, e->c, e->close_app, e->close_code, "done", 4, w->now);
        }
        if (i == last)
            break;
    }
}
