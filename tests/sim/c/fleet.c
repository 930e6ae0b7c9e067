/* Several connections in the same two engines: worlds side by side, which share tables, pools, timers, bursts and the
 * sink, and worlds one after the other, which get the places that others have left.
 *
 *     world 1 --.                     .-- world 1     each with its own network, addresses, plan, ledger
 *     world 2 ---- engine ... engine ---- world 2     batches of datagrams are mixed
 *     world 3 --'                     '-- world 3     a table that is full refuses, and a world waits for a place
 *
 * What each of them is promised holds as if it were alone: nobody's bytes come to another, nobody is stopped for ever
 * by what another one holds. Adoptions are late at one end or the other: what comes meanwhile is held as by the
 * supervisor, and brought to the engine late, behind packets that are younger. */
#include <string.h>

#include "must.h"
#include "world.h"

enum { SIDE_BY_SIDE = 3, MOST = 6 };

/* One place for a world. */
struct berth {
    struct world w;
    bool runs;
    uint64_t at[2]; /* when its ends are adopted */
};

static struct berth berths[SIDE_BY_SIDE];
static struct ab_quic *engines[2];
static struct ab_quic_config configs[2];
static struct rng chance;
static uint64_t now, begins; /* the time; when the next world begins */
static uint32_t left;        /* worlds that are still to begin */
static uint32_t number;      /* of the last one */
static uint32_t room;        /* of the buffers that datagrams are built in */
uint64_t fleet_packets;

void fleet_init(void)
{
    for (int i = 0; i < SIDE_BY_SIDE; i++)
        world_init(&berths[i].w);
}

void fleet_fini(void)
{
    for (int i = 0; i < SIDE_BY_SIDE; i++)
        world_fini(&berths[i].w);
}

/* --- the sink of an engine: whose it is ------------------------------------------------------------------------- */

static struct end *whose(void *ctx, uint64_t id)
{
    uint32_t side = *(const uint32_t *)ctx;

    for (int i = 0; i < SIDE_BY_SIDE; i++)
        if (berths[i].runs && berths[i].w.end[side].id == id)
            return &berths[i].w.end[side];
    SIM_FAIL("something about connection %llu, which is not there", (unsigned long long)id);
}

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    ledger_sink.data(whose(ctx, ab_quic_conn_id(c)), c, stream, offset, data, len, fin);
}

static void on_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    ledger_sink.reset(whose(ctx, ab_quic_conn_id(c)), c, stream, code, final_size);
}

static void on_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    ledger_sink.datagram(whose(ctx, ab_quic_conn_id(c)), c, data, len);
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome, uint64_t first)
{
    return ledger_sink.done(whose(ctx, ab_quic_conn_id(c)), c, token, outcome, first);
}

static bool on_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    return ledger_sink.event(whose(ctx, e->conn), e, body);
}

/* --- worlds come and go ------------------------------------------------------------------------------------------- */

/* Places of a table that are taken; `promised`: also those of worlds that have begun and are not adopted yet. */
static uint64_t taken(uint32_t side, bool promised)
{
    struct ab_quic_totals t;

    ab_quic_totals(engines[side], &t);
    for (int i = 0; i < SIDE_BY_SIDE; i++)
        t.connections += promised && berths[i].runs && !berths[i].w.end[side].adopted;
    return t.connections;
}

/* A world in a free berth; where a table is full, it is refused and comes later. */
static void begin(struct berth *b)
{
    struct world *w = &b->w;
    uint32_t late;

    world_reset(w, rng_next(&chance), NULL, 0);
    w->number = number + 1;
    w->shared = configs;
    w->begins = now;
    scenario_draw(w);
    w->room = room;
    for (uint32_t i = 0; i < 2; i++) {
        w->end[i].id = 10 * w->number + i;
        w->end[i].q = engines[i];
        if (taken(i, true) < configs[i].connections)
            continue;
        if (taken(i, false) == configs[i].connections) {
            SIM_MUST(scenario_try(w, &w->end[i]) == AB_QUIC_REFUSED_FULL);
            world_tally[9]++;
        }
        begins = now + 50 * NET_MS;
        return;
    }
    late = (uint32_t)rng_below(&chance, 3); /* 2: neither */
    for (uint32_t i = 0; i < 2; i++)
        b->at[i] = now + (i == late ? rng_below(&chance, 2 * w->net.way[!i].delay_ns + NET_MS) : 0);
    b->runs = true;
    number++;
    left--;
    begins = now + RNG_OF(&chance, 0, NET_MS, 100 * NET_MS, 2000 * NET_MS);
    SIM_TELL("%12.6f world %u begins\n", (double)now / 1e9, w->number);
}

static bool over(const struct world *w)
{
    for (int i = 0; i < 2; i++)
        if (!w->end[i].closed || ab_quic_find(engines[i], w->end[i].id))
            return false;
    return true;
}

static void end(struct berth *b)
{
    SIM_TELL("%12.6f world %u is over\n", (double)now / 1e9, b->w.number);
    ledger_settle(&b->w);
    fleet_packets += b->w.packets;
    b->runs = false;
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

/* What has arrived for all worlds, mixed as one backend would bring it. */
static bool deliver(void)
{
    struct arrival batch[2][WORLD_BURST];
    uint32_t count[2] = {0, 0};
    bool any = false, more = true;

    while (more) {
        more = false;
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            struct world *w = &berths[i].w;
            struct net_flight *f = berths[i].runs ? net_arrived(&w->net, now) : NULL;
            struct end *e;

            if (!f)
                continue;
            any = more = true;
            e = &w->end[f->to];
            if (!e->adopted && w->held_count == sizeof(w->held) / sizeof(w->held[0])) {
                net_done(&w->net, f);
            } else if (!e->adopted) {
                w->held[w->held_count++] = f;
            } else {
                batch[f->to][count[f->to]++] = (struct arrival){e, f};
                if (count[f->to] == WORLD_BURST) {
                    world_receive(e->q, batch[f->to], WORLD_BURST);
                    count[e->index] = 0;
                }
            }
        }
    }
    for (int i = 0; i < 2; i++)
        if (count[i])
            world_receive(engines[i], batch[i], count[i]);
    return any;
}

static bool adopt(struct berth *b)
{
    struct world *w = &b->w;
    enum ab_quic_refusal why;
    bool any = false;

    for (int i = 0; i < 2; i++) {
        struct end *e = &w->end[i];

        if (e->adopted || now < b->at[i])
            continue;
        why = scenario_try(w, e);
        if (why != AB_QUIC_REFUSED_NONE) { /* others have the pools: later */
            MUST_SAY(why == AB_QUIC_REFUSED_FULL, "world %u is refused for %u", w->number, why);
            b->at[i] = now + 20 * NET_MS;
            continue;
        }
        e->adopted = true;
        any = true;
        /* What was held is brought to the engine late, one by one, while younger packets come directly. */
        for (uint32_t k = 0; k < w->held_count; k++)
            net_again(&w->net, w->held[k], now + rng_below(&chance, 5 * NET_MS));
        world_tally[10] += w->held_count;
        w->held_count = 0;
    }
    return any;
}

static struct berth *of(uint64_t id, uint32_t side)
{
    for (int i = 0; i < SIDE_BY_SIDE; i++)
        if (berths[i].runs && berths[i].w.end[side].id == id)
            return &berths[i];
    SIM_FAIL("a packet of connection %llu, which is not there", (unsigned long long)id);
}

static bool transmit(uint32_t side)
{
    static uint8_t buffers[WORLD_BURST][NET_MTU];
    struct ab_quic_out out[WORLD_BURST];
    uint32_t n, most, rounds = 0;
    bool any = false;

    do {
        most = (uint32_t)rng_between(&chance, 1, WORLD_BURST);
        memset(out, 0, sizeof(out));
        for (uint32_t i = 0; i < most; i++) {
            out[i].data = buffers[i];
            out[i].room = room;
        }
        n = ab_quic_tx(engines[side], out, most, now);
        SIM_MUST(n <= most);
        for (uint32_t i = 0; i < n; i++) {
            struct world *w = &of(ab_quic_conn_id(out[i].conn), side)->w;

            world_leave(w, &w->end[side], &out[i]);
        }
        any |= n > 0;
        MUST_SAY(++rounds < 10000, "ab_quic_tx does not come to an end");
    } while (n == most);
    return any;
}

static uint64_t earliest(void)
{
    uint64_t next = NET_NEVER;

    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        struct berth *b = &berths[i];
        uint64_t at;

        if (!b->runs) {
            if (left && begins < next)
                next = begins;
            continue;
        }
        at = world_earliest(&b->w);
        if (at < next)
            next = at;
        for (int k = 0; k < 2; k++)
            if (!b->w.end[k].adopted && b->at[k] < next)
                next = b->at[k];
        if (now > b->w.limit) {
            for (int k = 0; k < SIDE_BY_SIDE; k++)
                if (berths[k].runs)
                    ledger_explain(&berths[k].w);
            SIM_FAIL("world %u: no end in sight", b->w.number);
        }
    }
    return next;
}

static bool turn(void)
{
    bool any = deliver();

    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        struct berth *b = &berths[i];

        if (!b->runs && left && begins <= now) {
            begin(b);
            any = true;
        }
        if (!b->runs)
            continue;
        b->w.now = now;
        any |= adopt(b);
        any |= world_act(&b->w);
    }
    for (uint32_t side = 0; side < 2; side++)
        any |= transmit(side);
    for (int i = 0; i < SIDE_BY_SIDE; i++) {
        struct world *w = &berths[i].w;

        if (!berths[i].runs)
            continue;
        if (!w->closing && !w->idle_end && ledger_quiet(w) && (!w->dead || now < w->dead_at) && !w->early_close) {
            plan_finish(w);
            any = true;
        }
        if (over(w)) {
            end(&berths[i]);
            any = true;
        }
    }
    return any;
}

static bool running(void)
{
    for (int i = 0; i < SIDE_BY_SIDE; i++)
        if (berths[i].runs)
            return true;
    return left > 0;
}

void fleet_run(uint64_t seed)
{
    static const uint32_t sides[2] = {0, 1};
    struct ab_quic_totals t;
    uint64_t next, stuck = 0;

    sim_seed = seed;
    chance = (struct rng){.state = seed ^ UINT64_C(0x666c656574)};
    now = begins = rng_between(&chance, 1, 1000000) * NET_MS;
    left = (uint32_t)rng_between(&chance, 2, MOST);
    number = 0;
    room = (uint32_t)RNG_OF(&chance, 1200, 1472, 9000);
    for (uint32_t i = 0; i < 2; i++) {
        scenario_config(&chance, &configs[i]);
        configs[i].connections = (uint32_t)RNG_OF(&chance, 2, 3, 4);
        configs[i].keep_alive_ms = 1000; /* who waits for what others hold must not be idle */
        engines[i] = NULL;
        scenario_engine(&engines[i], &configs[i],
                        &(struct ab_quic_sink){(void *)&sides[i], on_data, on_reset, on_datagram, on_done, on_event});
    }
    while (running()) {
        for (int i = 0; i < SIDE_BY_SIDE; i++)
            berths[i].w.now = now;
        if (turn()) {
            stuck = 0;
            continue;
        }
        next = earliest();
        MUST_SAY(next != NET_NEVER, "nothing will ever happen again");
        if (next <= now) {
            MUST_SAY(++stuck < 1000, "a timer is stuck at %llu", (unsigned long long)now);
            now += stuck > 100; /* a sink that refused is asked again */
            continue;
        }
        stuck = 0;
        now = next;
    }
    for (int i = 0; i < 2; i++) {
        ab_quic_totals(engines[i], &t);
        MUST_SAY(t.connections == 0 && t.slots_used == 0 && t.blocks_used == 0 && t.objects_used == 0,
                 "end %d keeps %llu connections, %llu slots, %llu blocks, %llu streams", i,
                 (unsigned long long)t.connections, (unsigned long long)t.slots_used, (unsigned long long)t.blocks_used,
                 (unsigned long long)t.objects_used);
        ab_quic_free(engines[i]);
    }
}
