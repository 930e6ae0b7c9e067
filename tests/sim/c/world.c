/* The loop: virtual time goes to the next thing that happens, until nothing can happen any more. */
#include "world.h"

#include <string.h>

#include "must.h"
#include "quic_conn.h"

/* No pause in a run is as long: PTOs are a minute apart at most, darkness ends, an idle timeout is ten minutes. */
#define PATIENCE (1800 * 1000 * NET_MS)

static uint8_t buffers[WORLD_BURST][NET_MTU];

void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    net_init(&w->net, 0);
    for (int i = 0; i < 2; i++)
        watch_init(&w->end[i].watch);
}

void world_fini(struct world *w)
{
    net_fini(&w->net);
    for (int i = 0; i < 2; i++) {
        watch_fini(&w->end[i].watch);
        for (int k = 0; k < STREAM_TYPES; k++)
            free(w->end[i].in[k]);
    }
}

void world_reset(struct world *w, uint64_t seed, const uint8_t *choices, size_t len)
{
    struct net net = w->net;
    struct watch watch[2] = {w->end[0].watch, w->end[1].watch};
    struct incoming *in[2][STREAM_TYPES];
    uint32_t room[2][STREAM_TYPES];

    for (int i = 0; i < 2; i++) {
        memcpy(in[i], w->end[i].in, sizeof(in[i]));
        memcpy(room[i], w->end[i].in_room, sizeof(room[i]));
    }
    memset(w, 0, sizeof(*w));
    w->net = net;
    for (int i = 0; i < 2; i++) {
        w->end[i].w = w;
        w->end[i].index = (uint32_t)i;
        w->end[i].id = 1 + (uint32_t)i;
        w->end[i].watch = watch[i];
        memcpy(w->end[i].in, in[i], sizeof(in[i]));
        memcpy(w->end[i].in_room, room[i], sizeof(room[i]));
        for (int k = 0; k < STREAM_TYPES; k++)
            if (room[i][k])
                memset(in[i][k], 0, room[i][k] * sizeof(struct incoming));
    }
    w->rng = (struct rng){.state = seed, .choices = choices, .left = len};
    net_reset(&w->net, seed ^ UINT64_C(0x6e6574776f726b));
    w->valid_port = w->net.port;
}

void world_receive(struct ab_quic *q, const struct arrival *a, uint32_t count)
{
    struct ab_dgram d[WORLD_BURST];
    uint8_t mine[WORLD_BURST];
    uint8_t *exact[WORLD_BURST];

    memset(d, 0, sizeof(d));
    for (uint32_t i = 0; i < count; i++) {
        struct end *e = a[i].e;
        const struct net_flight *f = a[i].f;

        exact[i] = malloc(f->len); /* a sanitizer sees an access behind the end */
        SIM_MUST(exact[i] && e->q == q);
        memcpy(exact[i], f->data, f->len);
        d[i].data = exact[i];
        d[i].len = f->len;
        d[i].family = 4;
        d[i].tos = f->ecn;
        memcpy(d[i].src, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0", 15);
        memcpy(d[i].dst, d[i].src, 15);
        d[i].src[14] = d[i].dst[14] = (uint8_t)e->w->number;
        d[i].src[15] = (uint8_t)(2 - e->index);
        d[i].dst[15] = (uint8_t)(1 + e->index);
        d[i].sport = e->index ? f->port : 8001;
        d[i].dport = e->index ? 8001 : 40000;
        if (e->index && f->port == e->w->net.port && f->port != e->w->valid_port)
            e->w->port_in += f->len;
    }
    ab_quic_rx(q, d, mine, count, a[0].e->w->now);
    for (uint32_t i = 0; i < count; i++) {
        free(exact[i]);
        net_done(&a[i].e->w->net, a[i].f);
    }
}

static bool deliver(struct world *w)
{
    struct arrival batch[2][WORLD_BURST];
    struct net_flight *f;
    uint32_t count[2] = {0, 0};
    bool any = false;

    while ((f = net_arrived(&w->net, w->now)) != NULL) {
        struct end *e = &w->end[f->to];

        any = true;
        if (!e->adopted) {
            if (w->held_count < sizeof(w->held) / sizeof(w->held[0]))
                w->held[w->held_count++] = f;
            else
                net_done(&w->net, f);
            continue;
        }
        batch[f->to][count[f->to]++] = (struct arrival){e, f};
        if (count[f->to] == WORLD_BURST) {
            world_receive(e->q, batch[f->to], WORLD_BURST);
            count[e->index] = 0;
        }
    }
    for (int i = 0; i < 2; i++)
        if (count[i])
            world_receive(w->end[i].q, batch[i], count[i]);
    return any;
}

void world_leave(struct world *w, struct end *e, const struct ab_quic_out *out)
{
    static uint8_t plain[NET_MTU];
    uint16_t to = out->path->remote_port;

    MUST_SAY(out->len <= w->room && out->len > 0, "%u bytes in a buffer of %u", out->len, w->room);
    MUST_SAY(out->len <= out->path->mtu || out->path->mtu == 0, "%u bytes on a path of %u", out->len, out->path->mtu);
    SIM_MUST(ab_quic_conn_id(out->conn) == e->id && out->path->remote[14] == w->number);
    watch_packet(&e->watch, out->data, out->len, plain);
    SIM_TELL("%12.6f %u -> %u bytes to %u, packet %llu%s%s\n", (double)w->now / 1e9, e->index, out->len, to,
             (unsigned long long)e->watch.least - 1, out->probe ? " probe" : "", e->watch.closing ? " close" : "");
    if (e->index && to == w->net.port && to != w->valid_port) {
        w->port_out += out->len;
        /* a sink that refuses does not know yet that it was validated */
        MUST_SAY(e->refuses > 0 || w->port_out <= 3 * w->port_in, "%llu bytes to an address that sent %llu",
                 (unsigned long long)w->port_out, (unsigned long long)w->port_in);
    }
    net_send(&w->net, e->index, out->data, out->len, out->ecn, to, w->now);
    w->packets++;
    MUST_SAY(w->packets < 2000000, "%llu packets", (unsigned long long)w->packets);
}

/* Everything that `e` wants to send now; whether there was any. */
static bool transmit(struct world *w, struct end *e)
{
    struct ab_quic_out out[WORLD_BURST];
    uint32_t n, most, rounds = 0;
    bool any = false;

    if (!e->adopted)
        return false;
    do {
        most = (uint32_t)rng_between(&w->rng, 1, WORLD_BURST);
        memset(out, 0, sizeof(out));
        for (uint32_t i = 0; i < most; i++) {
            out[i].data = buffers[i];
            out[i].room = w->room;
        }
        n = ab_quic_tx(e->q, out, most, w->now);
        SIM_MUST(n <= most);
        for (uint32_t i = 0; i < n; i++)
            world_leave(w, e, &out[i]);
        any |= n > 0;
        MUST_SAY(++rounds < 10000, "ab_quic_tx does not come to an end");
    } while (n == most);
    return any;
}

/* A client that moves by itself takes another connection ID of its peer's for it, which then does the same (RFC 9000
 * 9.5). The engine never moves by itself, so this is done to it. */
static void change_cid(struct end *e)
{
    struct ab_quic_frame f = {.type = AB_QUIC_FRAME_RETIRE_CONNECTION_ID};

    if (!ab_quic_conn_open(e->c) || e->c->control_count == AB_QUIC_CONTROL_MAX ||
        ab_quic_slots_left(&e->q->slots) == 0 || !ab_quic_cids_rotate(&e->c->cids, &f.retire_cid.sequence))
        return;
    SIM_MUST(ab_quic_control_push(e->q, e->c, &f) == 0);
    ab_quic_owe(e->q, e->c, AB_QUIC_OWED_PEER_CIDS);
}

bool world_act(struct world *w)
{
    bool any = false;

    for (int i = 0; i < 2; i++) {
        struct end *e = &w->end[i];

        if (!e->adopted || e->closed)
            continue;
        if (e->cids_wanted) {
            scenario_stock(w, e);
            any = true;
        }
        if (e->actions && e->next_action <= w->now && !e->closing) {
            for (int k = 0; k < 16 && e->actions && e->next_action <= w->now; k++)
                plan_act(w, e);
            any = true;
        }
    }
    /* A peer must not move before the handshake is confirmed (RFC 9000 9). */
    if (w->rebinds && w->next_rebind <= w->now && w->end[0].confirmed && !w->closing) {
        w->rebinds--;
        w->next_rebind = w->now + rng_below(&w->rng, 500 * NET_MS);
        net_rebind(&w->net);
        w->port_in = w->port_out = 0;
        if (!w->end[0].closed && w->net.port % 2)
            change_cid(&w->end[0]);
        if (!w->end[0].closed) /* who says nothing cannot be found again behind a NAT */
            ab_quic_ping(w->end[0].q, w->end[0].c);
        SIM_TELL("%12.6f the client's port is %u\n", (double)w->now / 1e9, w->net.port);
        any = true;
    }
    if (w->early_close && !w->closing && w->close_at <= w->now && w->end[0].adopted && w->end[1].adopted) {
        for (int i = 0; i < 2; i++)
            w->end[i].actions = 0;
        plan_finish(w);
        any = true;
    }
    if (w->dead && w->dead_at <= w->now)
        for (int i = 0; i < 2; i++)
            w->end[i].actions = 0;
    return any;
}

uint64_t world_earliest(struct world *w)
{
    uint64_t next = net_deadline(&w->net);

    for (int i = 0; i < 2; i++) {
        struct end *e = &w->end[i];
        uint64_t at = e->adopted ? ab_quic_deadline(e->q) : NET_NEVER;

        if (at < next)
            next = at;
        if (e->actions && e->adopted && !e->closed && !e->closing && e->next_action < next)
            next = e->next_action;
    }
    if (w->rebinds && !w->closing && w->end[0].confirmed && w->next_rebind < next)
        next = w->next_rebind;
    if (w->early_close && !w->closing && w->end[0].adopted && w->end[1].adopted && w->close_at < next)
        next = w->close_at;
    return next;
}

static bool empty(struct world *w)
{
    struct ab_quic_totals t;

    for (int i = 0; i < 2; i++) {
        ab_quic_totals(w->end[i].q, &t);
        if (t.connections)
            return false;
    }
    return true;
}

/* Whether nothing was done or told for long, though there is something to do. */
static bool stuck(struct world *w)
{
    uint64_t moved = 0;

    for (int i = 0; i < 2; i++) {
        const struct end *e = &w->end[i];

        moved += e->closed + e->told + e->message_count - e->undone - e->actions;
    }
    if (moved != w->moved)
        w->moved_at = w->now;
    w->moved = moved;
    return w->now - w->moved_at > PATIENCE;
}

void world_run(struct world *w, uint64_t seed, const uint8_t *choices, size_t len)
{
    uint64_t server_at, idle_turns = 0, next;
    struct ab_quic_totals t;

    sim_seed = seed;
    world_reset(w, seed, choices, len);
    scenario_draw(w);
    server_at = w->start + (rng_below(&w->rng, 3) ? 0 : w->net.way[0].delay_ns + NET_MS);
    scenario_adopt(w, &w->end[0]);
    for (;;) {
        bool any = deliver(w), still;

        if (!w->end[1].adopted && w->now >= server_at) {
            scenario_adopt(w, &w->end[1]);
            for (uint32_t i = 0; i < w->held_count; i++)
                world_receive(w->end[1].q, &(struct arrival){&w->end[1], w->held[i]}, 1);
            any = true;
        }
        any |= world_act(w);
        for (int i = 0; i < 2; i++)
            any |= transmit(w, &w->end[i]);
        w->turns++;
        if (!w->closing && !w->idle_end && ledger_quiet(w) && (!w->dead || w->now < w->dead_at) && !w->early_close)
            plan_finish(w);
        if (w->end[0].closed && w->end[1].closed && empty(w))
            break;
        next = world_earliest(w);
        if (!w->end[1].adopted && server_at < next)
            next = server_at;
        if (!any && next <= w->now) {
            MUST_SAY(++idle_turns < 1000, "a timer is stuck: deadlines %llu and %llu at %llu",
                     (unsigned long long)ab_quic_deadline(w->end[0].q),
                     (unsigned long long)(w->end[1].q ? ab_quic_deadline(w->end[1].q) : 0), (unsigned long long)w->now);
            w->now += idle_turns > 100; /* a sink that refused is asked again */
            continue;
        }
        idle_turns = 0;
        still = stuck(w);
        if (choices && next != NET_NEVER && next > w->limit && !still) { /* see fuzz_quic_peer.c */
            for (int i = 0; i < 2; i++) {
                ab_quic_free(w->end[i].q);
                w->end[i].q = NULL;
            }
            return;
        }
        if (next == NET_NEVER || next > w->limit)
            ledger_explain(w);
        if (next == NET_NEVER)
            SIM_FAIL("nothing will ever happen again: closed %d %d, undone %u %u, actions %u %u", w->end[0].closed,
                     w->end[1].closed, w->end[0].undone, w->end[1].undone, w->end[0].actions, w->end[1].actions);
        if (next > w->now)
            w->now = next;
        MUST_SAY(w->now <= w->limit, "no end in sight: closed %d %d, undone %u %u, actions %u %u", w->end[0].closed,
                 w->end[1].closed, w->end[0].undone, w->end[1].undone, w->end[0].actions, w->end[1].actions);
    }
    ledger_settle(w);
    for (int i = 0; i < 2; i++) {
        ab_quic_totals(w->end[i].q, &t);
        MUST_SAY(t.slots_used == 0 && t.blocks_used == 0 && t.objects_used == 0,
                 "end %d keeps %llu slots, %llu blocks, %llu streams", i, (unsigned long long)t.slots_used,
                 (unsigned long long)t.blocks_used, (unsigned long long)t.objects_used);
        ab_quic_free(w->end[i].q);
        w->end[i].q = NULL;
    }
}
