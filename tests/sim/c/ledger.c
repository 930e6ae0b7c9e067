/* What the sinks hear is held against what was sent, byte by byte; at the end, against what was promised. */
#include <string.h>

#include "must.h"
#include "world.h"

uint64_t world_kinds[WATCH_KINDS], world_closes[8], world_outcomes[8], world_tally[WORLD_TALLY];

static struct end *other(const struct end *e)
{
    return &e->w->end[!e->index];
}

uint8_t flow_byte(const struct end *sender, uint32_t key, uint64_t offset)
{
    if (offset < 2)
        return (uint8_t)(key >> 8 * offset);
    return (uint8_t)((key * 31 + sender->index * 101 + offset) * UINT64_C(0x9e3779b97f4a7c15) >> 40);
}

static struct incoming *incoming(struct end *e, uint64_t stream)
{
    uint32_t type = stream & 3;
    uint64_t number = stream >> 2;

    MUST_SAY(number < 1 << 20, "stream %llu", (unsigned long long)stream);
    if (number >= e->in_room[type]) {
        uint32_t room = (uint32_t)number * 2 + 64;

        e->in[type] = realloc(e->in[type], room * sizeof(struct incoming));
        SIM_MUST(e->in[type]);
        memset(e->in[type] + e->in_room[type], 0, (room - e->in_room[type]) * sizeof(struct incoming));
        e->in_room[type] = room;
    }
    return &e->in[type][number];
}

/* The flow of a stream that came far enough to carry its key. */
static struct flow *flow_of(struct end *e, struct incoming *in, uint64_t stream)
{
    struct end *sender = other(e);
    struct flow *f;

    MUST_SAY(in->key < sender->flow_count, "stream %llu has the key %u, which nobody sent", (unsigned long long)stream,
             in->key);
    f = &sender->flows[in->key];
    if (f->id == UINT64_MAX)
        f->id = stream;
    MUST_SAY(f->id == stream, "flow %u came on the streams %llu and %llu", in->key, (unsigned long long)f->id,
             (unsigned long long)stream);
    SIM_MUST(f->how != AB_QUIC_SEND_DATAGRAM);
    return f;
}

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    struct end *e = ctx, *sender = other(e);
    struct incoming *in = incoming(e, stream);
    struct flow *f;
    uint64_t end = offset + len;

    SIM_TELL("%12.6f %u gets stream %llu %llu+%u%s\n", (double)e->w->now / 1e9, e->index, (unsigned long long)stream,
             (unsigned long long)offset, len, fin ? " fin" : "");
    SIM_MUST(c == e->c);
    MUST_SAY(!e->closed, "data behind CLOSED");
    MUST_SAY((stream & 1) != e->index || !(stream & 2), "data on a stream %llu that only we send on",
             (unsigned long long)stream);
    MUST_SAY(!in->fin && !in->reset, "data on stream %llu behind its end", (unsigned long long)stream);
    MUST_SAY(offset == in->next, "stream %llu goes on at %llu, not at %llu", (unsigned long long)stream,
             (unsigned long long)offset, (unsigned long long)in->next);
    MUST_SAY(len || fin, "told nothing about stream %llu", (unsigned long long)stream);
    for (uint32_t i = 0; i < len && offset + i < 2; i++)
        in->key |= (uint32_t)data[i] << 8 * (offset + i);
    in->next = end;
    in->fin = fin;
    e->told++;
    if (end < 2) {
        e->short_got += fin;
        return;
    }
    f = flow_of(e, in, stream);
    for (uint32_t i = offset ? 0 : 2; i < len; i++)
        MUST_SAY(data[i] == flow_byte(sender, in->key, offset + i), "byte %llu of stream %llu is wrong",
                 (unsigned long long)offset + i, (unsigned long long)stream);
    MUST_SAY(end <= f->sent, "stream %llu has %llu bytes, %llu were sent", (unsigned long long)stream,
             (unsigned long long)end, (unsigned long long)f->sent);
    f->got = end;
    if (fin) {
        MUST_SAY(f->fin && end == f->sent, "stream %llu ends at %llu of %llu", (unsigned long long)stream,
                 (unsigned long long)end, (unsigned long long)f->sent);
        f->got_fin = true;
    }
}

static void on_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    struct end *e = ctx, *sender = other(e);
    struct incoming *in = incoming(e, stream);

    SIM_TELL("%12.6f %u gets reset of stream %llu\n", (double)e->w->now / 1e9, e->index, (unsigned long long)stream);
    SIM_MUST(c == e->c && !e->closed);
    MUST_SAY(!in->fin && !in->reset, "a reset of stream %llu behind its end", (unsigned long long)stream);
    SIM_MUST(final_size >= in->next);
    in->reset = true;
    for (uint32_t i = 0; i < sender->flow_count; i++) {
        struct flow *f = &sender->flows[i];

        if (f->id != stream || f->how == AB_QUIC_SEND_DATAGRAM)
            continue;
        MUST_SAY(f->reset || f->stopped, "stream %llu was reset, which nobody asked for", (unsigned long long)stream);
        MUST_SAY(final_size <= f->sent, "reset stream %llu had %llu bytes of %llu", (unsigned long long)stream,
                 (unsigned long long)final_size, (unsigned long long)f->sent);
        f->got_reset = true;
        return;
    }
    MUST_SAY(in->next < 2, "a reset of stream %llu, which nobody sent", (unsigned long long)stream);
    (void)code;
}

static void on_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    struct end *e = ctx, *sender = other(e);
    struct flow *f;
    uint32_t key;

    SIM_MUST(c == e->c && !e->closed && len >= 2);
    key = data[0] | (uint32_t)data[1] << 8;
    SIM_MUST(key < sender->flow_count);
    f = &sender->flows[key];
    MUST_SAY(f->how == AB_QUIC_SEND_DATAGRAM && len == f->sent, "a DATAGRAM of %u bytes", len);
    MUST_SAY(!f->got_fin, "DATAGRAM %u came twice", key);
    for (uint32_t i = 2; i < len; i++)
        SIM_MUST(data[i] == flow_byte(sender, key, i));
    f->got = len;
    f->got_fin = true;
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome, uint64_t first)
{
    struct end *e = ctx;
    struct message *m;
    struct flow *f;

    SIM_MUST(c == e->c);
    MUST_SAY(!e->closed, "a fate behind CLOSED");
    if (e->refuses > 0 && rng_chance(&e->w->rng, e->refuses))
        return false;
    MUST_SAY(token >= 1 && token <= e->message_count, "the fate of message %llu", (unsigned long long)token);
    m = &e->messages[token - 1];
    f = &e->flows[m->flow];
    SIM_TELL("%12.6f %u done %llu: %d\n", (double)e->w->now / 1e9, e->index, (unsigned long long)token, outcome);
    MUST_SAY(m->outcome == DONE_NOT, "the fate of message %llu twice: %d, %d", (unsigned long long)token, m->outcome,
             outcome);
    m->outcome = outcome;
    SIM_MUST(e->undone-- > 0 && f->pending-- > 0);
    world_outcomes[outcome & 7]++;
    switch (outcome) {
    case AB_QUIC_OUTCOME_ACKNOWLEDGED:
        SIM_MUST(first != 0 && first <= e->w->now);
        if (f->how == AB_QUIC_SEND_DATAGRAM || (f->how == AB_QUIC_SEND_UNI && f->sent >= 2))
            MUST_SAY(f->got_fin || f->stopped || f->reset || other(e)->closed,
                     "message %llu is acknowledged and was not delivered", (unsigned long long)token);
        break;
    case AB_QUIC_OUTCOME_CLOSED:
        break; /* judged at the end */
    case AB_QUIC_OUTCOME_RESET:
        MUST_SAY(f->reset, "message %llu: reset, which nobody asked for", (unsigned long long)token);
        break;
    case AB_QUIC_OUTCOME_STOPPED:
        MUST_SAY(f->stopped, "message %llu: stopped, which nobody asked for", (unsigned long long)token);
        break;
    case AB_QUIC_OUTCOME_LOST:
        SIM_MUST(f->how == AB_QUIC_SEND_DATAGRAM);
        f->failed = true;
        break;
    case AB_QUIC_OUTCOME_EXPIRED:
        MUST_SAY(m->expires, "message %llu expired and had no end", (unsigned long long)token);
        SIM_MUST(first == 0);
        f->failed = true;
        e->short_sent -= f->how == AB_QUIC_SEND_UNI && f->sent < 2;
        break;
    default:
        SIM_FAIL("outcome %d", outcome);
    }
    return true;
}

static bool on_event(void *ctx, const struct ab_quic_event *ev, const void *body)
{
    struct end *e = ctx;

    SIM_MUST(ev->conn == e->id);
    MUST_SAY(!e->closed, "event %u behind CLOSED", ev->kind);
    if (e->refuses > 0 && rng_chance(&e->w->rng, e->refuses))
        return false;
    SIM_TELL("%12.6f %u event %u number %llu code %llu\n", (double)e->w->now / 1e9, e->index, ev->kind,
             (unsigned long long)ev->number, (unsigned long long)ev->code);
    switch (ev->kind) {
    case AB_QUIC_EVENT_CONFIRMED:
        MUST_SAY(!e->confirmed, "confirmed twice");
        e->confirmed = true;
        break;
    case AB_QUIC_EVENT_CRYPTO:
        SIM_MUST(e->index == 0 && ev->number == e->crypto_got && ev->length);
        SIM_MUST(e->crypto_got + ev->length <= e->w->crypto_len);
        MUST_SAY(memcmp(body, e->w->crypto + e->crypto_got, ev->length) == 0, "CRYPTO bytes are wrong");
        e->crypto_got += ev->length;
        break;
    case AB_QUIC_EVENT_CIDS_LOW:
        e->cids_wanted = (uint32_t)ev->number;
        world_tally[0]++;
        break;
    case AB_QUIC_EVENT_CID_RETIRED:
        world_tally[1]++;
        break;
    case AB_QUIC_EVENT_RESET_TOKEN:
        world_tally[2]++;
        break;
    case AB_QUIC_EVENT_KEY_UPDATE:
        world_tally[3]++;
        break;
    case AB_QUIC_EVENT_MIGRATED: {
        const struct ab_path *path = body;

        SIM_MUST(ev->length == sizeof(*path) && e->index == 1);
        if (path->remote_port == e->w->net.port) {
            e->w->valid_port = path->remote_port;
            e->w->port_in = e->w->port_out = 0;
        }
        world_tally[4]++;
        break;
    }
    case AB_QUIC_EVENT_CLOSED:
        SIM_MUST(ev->length >= sizeof(struct ab_quic_closed));
        memcpy(&e->counts, body, sizeof(e->counts));
        e->closed = true;
        e->closed_by = ev->by;
        e->closed_app = ev->is_app;
        e->closed_code = ev->code;
        e->closed_frame = ev->number;
        MUST_SAY(e->undone == 0, "CLOSED with %u messages whose fate was not told", e->undone);
        world_closes[ev->by & 7]++;
        break;
    default:
        break;
    }
    return true;
}

const struct ab_quic_sink ledger_sink = {
    .data = on_data, .reset = on_reset, .datagram = on_datagram, .done = on_done, .event = on_event};

/* Everything that was sent has arrived, or has an excuse, and both ends know it. */
bool ledger_quiet(const struct world *w)
{
    for (int i = 0; i < 2; i++) {
        const struct end *e = &w->end[i];

        if (!e->adopted || e->actions || e->undone || e->pushed_back)
            return false;
        for (uint32_t k = 0; k < e->flow_count; k++) {
            const struct flow *f = &e->flows[k];

            if (f->how == AB_QUIC_SEND_DATAGRAM || f->failed || f->sent < 2)
                continue;
            if (f->fin ? !f->got_fin && !f->got_reset && !f->reset && !f->stopped
                       : f->got < f->sent && !f->reset && !f->stopped)
                return false;
        }
    }
    return w->end[0].confirmed && w->end[0].crypto_got == w->crypto_len;
}

/* What is still missing, for a reader of a failure. */
void ledger_explain(const struct world *w)
{
    for (int i = 0; i < 2; i++) {
        const struct end *e = &w->end[i];
        struct ab_quic_totals t;
        struct ab_quic_info info = {0};
        uint32_t shown = 0;

        ab_quic_totals(e->q, &t);
        if (ab_quic_find(e->q, e->id))
            ab_quic_conn_info(e->q, e->c, &info);
        fprintf(stderr,
                "end %d: slots %llu of %llu, blocks %llu of %llu, objects %llu of %llu; cwnd %llu in flight %llu, "
                "queued %llu, under way "
                "%llu, uni %llu of %llu, data %llu of %llu, received %llu, undecryptable %llu\n",
                i, (unsigned long long)t.slots_used, (unsigned long long)t.slots, (unsigned long long)t.blocks_used,
                (unsigned long long)t.blocks, (unsigned long long)t.objects_used, (unsigned long long)t.objects,
                (unsigned long long)info.row.cwnd, (unsigned long long)info.row.in_flight,
                (unsigned long long)info.queued, (unsigned long long)info.unacked,
                (unsigned long long)info.row.uni_opened, (unsigned long long)info.row.uni_limit,
                (unsigned long long)info.row.data_sent, (unsigned long long)info.row.data_limit,
                (unsigned long long)info.row.counts.packets_received,
                (unsigned long long)info.row.counts.packets_undecryptable);
        fprintf(stderr, "end %d: confirmed %d, closed %d by %u, actions %u, undone %u, crypto %llu of %u\n", i,
                e->confirmed, e->closed, e->closed_by, e->actions, e->undone, (unsigned long long)e->crypto_got,
                w->crypto_len);
        for (uint32_t k = 0; k < e->flow_count && shown < 8; k++) {
            const struct flow *f = &e->flows[k];

            if (f->how == AB_QUIC_SEND_DATAGRAM || f->got_reset || (f->got == f->sent && f->got_fin == f->fin) ||
                f->sent < 2)
                continue;
            shown++;
            fprintf(stderr,
                    "  flow %u how %u stream %lld: sent %llu%s got %llu%s reset %d stopped %d failed %d pending %u\n",
                    k, f->how, (long long)f->id, (unsigned long long)f->sent, f->fin ? " fin" : "",
                    (unsigned long long)f->got, f->got_fin ? " fin" : "", f->reset, f->stopped, f->failed, f->pending);
        }
    }
}

/* How hard it was: a scenario that meets none of this shows nothing. */
static void tally(const struct world *w)
{
    for (int i = 0; i < 2; i++) {
        const struct net_counts *n = &w->net.counts[i];
        const struct ab_quic_counts *c = &w->end[i].counts;
        const uint64_t met[] = {n->lost,
                                n->dark,
                                n->full,
                                n->big,
                                n->duplicated,
                                n->corrupted,
                                n->reordered,
                                n->rebound,
                                c->packets_spurious,
                                c->packets_duplicate,
                                c->packets_undecryptable,
                                c->ptos,
                                c->congestion_events,
                                c->messages_resent,
                                w->end[i].watch.kinds[0x03]};

        for (uint32_t k = 0; k < sizeof(met) / sizeof(met[0]); k++)
            world_tally[11 + k] += met[k];
    }
    world_tally[26] += w->end[1].watch.kinds[0x19];
}

/* ledger_settle: all is over. */
void ledger_settle(const struct world *w)
{
    bool excused = w->early_close || w->dead;

    tally(w);

    for (int i = 0; i < 2; i++) {
        const struct end *e = &w->end[i], *o = &w->end[!i];

        for (int k = 0; k < WATCH_KINDS; k++)
            world_kinds[k] += e->watch.kinds[k];
        SIM_MUST(e->closed && e->undone == 0);
        switch (e->closed_by) {
        case AB_QUIC_CLOSE_LOCAL:
            MUST_SAY(e->closing && !w->drop_end, "end %d closed, which nobody asked for", i);
            break;
        case AB_QUIC_CLOSE_PEER:
            MUST_SAY(o->closing, "end %d was closed by its peer, which nobody asked for: code %#llx frame %#llx", i,
                     (unsigned long long)e->closed_code, (unsigned long long)e->closed_frame);
            MUST_SAY(e->closed_code == o->close_code && e->closed_app == o->close_app,
                     "closed with code %llu, not %llu", (unsigned long long)e->closed_code,
                     (unsigned long long)o->close_code);
            break;
        case AB_QUIC_CLOSE_IDLE:
            if (!w->dead && !w->closing && !w->idle_end) {
                ledger_explain(w);
                SIM_FAIL("end %d was idle for too long", i);
            }
            break;
        case AB_QUIC_CLOSE_DROPPED:
            SIM_MUST(w->drop_end && e->closing);
            break;
        default:
            SIM_FAIL("end %d closed by %u with code %#llx, frame %#llx", i, e->closed_by,
                     (unsigned long long)e->closed_code, (unsigned long long)e->closed_frame);
        }
        for (uint32_t k = 0; k < e->message_count; k++)
            MUST_SAY(e->messages[k].outcome != AB_QUIC_OUTCOME_CLOSED || excused || w->idle_end,
                     "message %u of end %d was lost to a close that nobody asked for", k + 1, i);
        for (uint32_t k = 0; k < e->flow_count && !excused; k++) {
            const struct flow *f = &e->flows[k];

            if (f->how != AB_QUIC_SEND_DATAGRAM && f->sent >= 2 && !f->failed && !f->reset && !f->stopped)
                MUST_SAY(f->got == f->sent && f->got_fin == f->fin, "flow %u of end %d: %llu of %llu bytes came", k, i,
                         (unsigned long long)f->got, (unsigned long long)f->sent);
        }
        if (!excused)
            MUST_SAY(o->short_got == e->short_sent, "%u of %u short streams came", o->short_got, e->short_sent);
    }
}
