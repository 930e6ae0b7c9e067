/* Draws a world from its seed: limits, windows, pools, network, plan; and makes both engines with the connection in
 * them. */
#include <string.h>

#include "must.h"
#include "world.h"

struct params {
    uint8_t *p;
    uint32_t len;
};

static void put_varint(struct params *t, uint64_t v)
{
    uint32_t size = v < 64        ? 1
                    : v < 16384   ? 2
                    : v < 1 << 30 ? 4
                                  : 8,
             log = size == 1   ? 0
                   : size == 2 ? 1
                   : size == 4 ? 2
                               : 3;

    for (uint32_t i = 0; i < size; i++)
        t->p[t->len++] = (uint8_t)((v >> 8 * (size - 1 - i)) | (i == 0 ? log << 6 : 0));
}

static void put_number(struct params *t, uint64_t id, uint64_t v)
{
    put_varint(t, id);
    put_varint(t, v < 64 ? 1 : v < 16384 ? 2 : v < 1 << 30 ? 4 : 8);
    put_varint(t, v);
}

static void put_bytes(struct params *t, uint64_t id, const uint8_t *bytes, uint32_t len)
{
    put_varint(t, id);
    put_varint(t, len);
    memcpy(t->p + t->len, bytes, len);
    t->len += len;
}

static void draw_promises(struct world *w, struct promises *p, uint32_t stream_bytes)
{
    struct rng *r = &w->rng;
    bool tiny = rng_below(r, 4) == 0;

    p->max_data = tiny ? rng_between(r, 200, 5000) : RNG_OF(r, 20000, 100000, 1 << 20, 1 << 30);
    for (int i = 0; i < 3; i++) {
        p->stream_data[i] = tiny ? rng_between(r, 16, 2000) : rng_between(r, 1500, stream_bytes);
        if (p->stream_data[i] > stream_bytes)
            p->stream_data[i] = stream_bytes;
    }
    p->streams_bidi = tiny ? rng_between(r, 1, 3) : rng_between(r, 4, 64);
    p->streams_uni = tiny ? rng_between(r, 1, 5) : RNG_OF(r, 8, 64, 512);
    p->ack_exponent = RNG_OF(r, 0, 3, 3, 10, 20);
    p->ack_delay = RNG_OF(r, 0, 1, 25, 25, 100);
    p->cids = RNG_OF(r, 2, 4, 8);
    p->datagram = RNG_OF(r, 0, 200, 1200, 65535);
    p->udp = RNG_OF(r, 1200, 1472, 65527);
    if (r->choices) { /* see draw_config */
        p->streams_bidi = p->streams_bidi < 16 ? p->streams_bidi : 16;
        p->streams_uni = p->streams_uni < 32 ? p->streams_uni : 32;
    }
}

void scenario_config(struct rng *r, struct ab_quic_config *c)
{

    memset(c, 0, sizeof(*c));
    c->connections = 4;
    c->messages = (uint32_t)RNG_OF(r, 256, 256, 512, 1024);
    c->message_bytes = (uint32_t)RNG_OF(r, 0, 0, 1100, 1500);
    c->packets = (uint32_t)RNG_OF(r, 1024, 2048, 4096);
    c->streams = (uint32_t)RNG_OF(r, 256, 512);
    c->stream_bytes = (uint32_t)RNG_OF(r, 4096, 4096, 16384);
    c->uni_window = (uint32_t)RNG_OF(r, 512, 1024);
    c->bidi_window = (uint32_t)RNG_OF(r, 64, 128);
    c->burst_packets = (uint32_t)RNG_OF(r, 1, 4, 16, 64);
    c->cc = rng_below(r, 2) ? AB_QUIC_CUBIC : AB_QUIC_NEWRENO;
    c->initial_window = (uint32_t)RNG_OF(r, 0, 0, 2 * 1200, 10 * 1200);
    c->pacing = rng_below(r, 2);
    c->ecn = rng_below(r, 2);
    c->no_mtu_discovery = rng_below(r, 3) == 0;
    c->skip_packets = (uint32_t)RNG_OF(r, 0, 0, 10, 500);
    c->keep_alive_ms = (uint32_t)RNG_OF(r, 0, 0, 0, 1000);
    c->key_update_packets = RNG_OF(r, 0, 0, 20, 200);
    c->confidentiality_limit = c->key_update_packets ? 200 * c->key_update_packets : 0;
    c->seed = rng_next(r);
    c->crypto = rng_below(r, 2) ? NULL : "libcrypto";
    if (r->choices) { /* a fuzzer makes two engines an input, and small ones are as good */
        c->connections = 1;
        c->messages = 256;
        c->packets = c->packets / 4;
        c->streams = 64;
        c->stream_bytes = 4096;
        c->uni_window = c->bidi_window = 64;
        c->crypto = "libcrypto";
    }
}

void scenario_draw(struct world *w)
{
    struct rng *r = &w->rng;
    bool hard;

    net_draw(r, &w->net.way[0]);
    if (rng_below(r, 2))
        net_draw(r, &w->net.way[1]);
    else
        w->net.way[1] = w->net.way[0];
    w->suite = (uint8_t)rng_between(r, 1, 3);
    w->room = (uint32_t)RNG_OF(r, 1200, 1472, 1500, 9000);
    w->crypto_len = (uint32_t)RNG_OF(r, 0, 200, 700, SERVER_CRYPTO);
    rng_bytes(r, w->crypto, w->crypto_len);
    w->start = rng_between(r, 1, 1000000) * NET_MS;
    if (w->begins)
        w->start = w->begins;
    w->now = w->start;
    for (int way = 0; way < 2; way++)
        for (int i = 0; i < NET_DARK; i++)
            for (int k = 0; k < 2; k++)
                if (w->net.way[way].dark[i][k])
                    w->net.way[way].dark[i][k] += w->start;
    for (int i = 0; i < 2; i++) {
        struct end *e = &w->end[i];

        scenario_config(&w->rng, &w->configs[i]);
        if (w->shared)
            w->configs[i] = w->shared[i];
        draw_promises(w, &w->promised[i], w->configs[i].stream_bytes);
        rng_bytes(r, w->secrets[i], 48);
        w->local_cids[i] = (uint32_t)rng_between(r, 1, 4);
        w->mtus[i] = (uint16_t)RNG_OF(r, 1200, 1452, 1472, 8952);
        e->actions = (uint32_t)RNG_OF(r, 0, 1, 10, 50, 200, 600);
        e->action_gap = RNG_OF(r, 0, 10000, NET_MS, 20 * NET_MS);
        e->next_action = w->start + rng_below(r, 10 * NET_MS);
        e->refuses = rng_below(r, 8) ? 0 : 0.3;
    }
    hard = w->net.way[0].loss > 0.1 || w->net.way[1].loss > 0.1 || w->net.way[0].delay_ns > 100 * NET_MS ||
           w->net.way[1].delay_ns > 100 * NET_MS || w->net.way[0].dark[0][1] || w->net.way[1].dark[0][1];
    for (int i = 0; i < 2 && hard; i++) { /* or an hour is not enough */
        w->promised[i].max_data = w->promised[i].max_data < 2000 ? 2000 : w->promised[i].max_data;
        for (int k = 0; k < 3; k++)
            w->promised[i].stream_data[k] = w->promised[i].stream_data[k] < 1000 ? 1000 : w->promised[i].stream_data[k];
    }
    w->promised[0].idle_ms = hard ? 600000 : RNG_OF(r, 0, 30000, 60000);
    w->promised[1].idle_ms = hard ? 600000 : RNG_OF(r, 0, 30000, 60000);
    w->idle_ns =
        w->promised[0].idle_ms && w->promised[1].idle_ms
            ? (w->promised[0].idle_ms < w->promised[1].idle_ms ? w->promised[0].idle_ms : w->promised[1].idle_ms) *
                  NET_MS
            : (w->promised[0].idle_ms | w->promised[1].idle_ms) * NET_MS;
    w->limit = w->start + 3600 * 1000 * NET_MS;
    w->rebinds = (uint32_t)RNG_OF(r, 0, 0, 0, 1, 3);
    w->next_rebind = w->start + rng_below(r, 500 * NET_MS);
    if (w->rebinds) /* who says nothing cannot be found again behind a NAT, and here nobody else asks after it */
        w->configs[0].keep_alive_ms = 1000;
    switch (rng_below(r, 10)) {
    case 0: /* closes with bytes under way */
        w->early_close = true;
        w->close_at = w->start + rng_below(r, 300 * NET_MS);
        break;
    case 1: /* the network goes for ever */
        if (w->idle_ns) {
            w->dead = true;
            w->dead_at = w->start + rng_below(r, 300 * NET_MS);
            for (int way = 0; way < 2; way++) {
                w->net.way[way].dark[NET_DARK - 1][0] = w->dead_at;
                w->net.way[way].dark[NET_DARK - 1][1] = UINT64_MAX;
            }
            w->rebinds = 0;
        }
        break;
    case 2: /* nobody closes */
        w->idle_end = w->idle_ns && !w->configs[0].keep_alive_ms && !w->configs[1].keep_alive_ms &&
                      !w->configs[0].key_update_packets && !w->configs[1].key_update_packets;
        break;
    case 3:
        w->drop_end = true;
        break;
    default:
        break;
    }
    for (int i = 0; i < 2; i++)
        SIM_TELL("end %d: messages %u packets %u streams %u of %u, window %u, pacing %d; gives data %llu, streams %llu "
                 "uni %llu "
                 "bidi, %llu bytes each; idle %llu ms, cids %llu, mtu %u; loss %.2f delay %llu us mtu %u rate %llu\n",
                 i, w->configs[i].messages, w->configs[i].packets, w->configs[i].streams, w->configs[i].stream_bytes,
                 w->configs[i].initial_window, w->configs[i].pacing, (unsigned long long)w->promised[i].max_data,
                 (unsigned long long)w->promised[i].streams_uni, (unsigned long long)w->promised[i].streams_bidi,
                 (unsigned long long)w->promised[i].stream_data[2], (unsigned long long)w->promised[i].idle_ms,
                 (unsigned long long)w->promised[i].cids, w->mtus[i], w->net.way[i].loss,
                 (unsigned long long)w->net.way[i].delay_ns / 1000, w->net.way[i].mtu,
                 (unsigned long long)w->net.way[i].rate);
    if (w->dead) /* both must find out by themselves */
        w->configs[0].keep_alive_ms = w->configs[1].keep_alive_ms = 0;
}

static void make_cid(const struct world *w, struct ab_quic_cid *cid, uint32_t owner, uint64_t seq)
{
    memset(cid, 0, sizeof(*cid));
    cid->seq = seq;
    cid->len = 8;
    cid->has_token = 1;
    for (int i = 0; i < 8; i++)
        cid->cid[i] = (uint8_t)(seq >> 8 * i);
    cid->cid[6] = (uint8_t)w->number;
    cid->cid[7] = (uint8_t)(0xa0 + owner);
    memset(cid->token, (int)(owner * 128 + seq % 128), 16);
}

/* More connection IDs of this end, as the supervisor would bring them. */
static void extension(const struct world *w, uint32_t owner, struct params *t)
{
    const struct promises *p = &w->promised[owner];
    struct ab_quic_cid first;

    make_cid(w, &first, owner, 0);
    if (p->idle_ms)
        put_number(t, 0x01, p->idle_ms);
    put_number(t, 0x03, p->udp);
    put_number(t, 0x04, p->max_data);
    put_number(t, 0x05, p->stream_data[0]);
    put_number(t, 0x06, p->stream_data[1]);
    put_number(t, 0x07, p->stream_data[2]);
    put_number(t, 0x08, p->streams_bidi);
    put_number(t, 0x09, p->streams_uni);
    put_number(t, 0x0a, p->ack_exponent);
    put_number(t, 0x0b, p->ack_delay);
    put_number(t, 0x0e, p->cids);
    put_bytes(t, 0x0f, first.cid, first.len);
    if (p->datagram)
        put_number(t, 0x20, p->datagram);
    if (owner == 1) {
        put_bytes(t, 0x00, (const uint8_t *)"original", 8);
        put_bytes(t, 0x02, first.token, 16);
    }
}

void scenario_engine(struct ab_quic **q, const struct ab_quic_config *config, const struct ab_quic_sink *sink)
{
    struct ab_error err = {0};

    MUST_SAY(ab_quic_new(q, config, sink, &err) == 0, "no engine: %s", err.text);
}

void scenario_adopt(struct world *w, struct end *e)
{
    enum ab_quic_refusal why = scenario_try(w, e);

    MUST_SAY(why == AB_QUIC_REFUSED_NONE, "not adopted: %u", why);
    e->adopted = true;
}

enum ab_quic_refusal scenario_try(struct world *w, struct end *e)
{
    static struct ab_quic_adopt a;
    enum ab_quic_refusal why;
    struct params t;
    uint32_t me = e->index;

    if (!e->q)
        scenario_engine(&e->q, &w->configs[me],
                        &(struct ab_quic_sink){e, ledger_sink.data, ledger_sink.reset, ledger_sink.datagram,
                                               ledger_sink.done, ledger_sink.event});
    memset(&a, 0, sizeof(a));
    a.id = e->id;
    a.version = 1;
    a.role = me ? AB_QUIC_SERVER : AB_QUIC_CLIENT;
    a.suite = w->suite;
    a.confirmed = (uint8_t)me;
    memcpy(a.tx_secret, w->secrets[me], 48);
    memcpy(a.rx_secret, w->secrets[!me], 48);
    a.path.family = 4;
    memcpy(a.path.local, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0", 15);
    memcpy(a.path.remote, a.path.local, 15);
    a.path.local[14] = a.path.remote[14] = (uint8_t)w->number;
    a.path.local[15] = (uint8_t)(1 + me);
    a.path.remote[15] = (uint8_t)(2 - me);
    a.path.local_port = me ? 8001 : 40000;
    a.path.remote_port = me ? 40000 : 8001;
    a.path.ttl = 64;
    a.path.mtu = w->mtus[me];
    memset(a.path.dmac, 2, 6);
    memset(a.path.smac, 4, 6);
    a.next_pn = me ? 3 : 5;
    a.rtt_hint_ns = 0;
    for (uint32_t i = 0; i < w->local_cids[me]; i++)
        make_cid(w, &a.local_cids[a.local_count++], me, i);
    e->cid_next = w->local_cids[me];
    make_cid(w, &a.peer_cids[a.peer_count++], !me, 0);
    a.peer_cids[0].has_token = !me;
    t = (struct params){a.local_tparams, 0};
    extension(w, me, &t);
    a.local_tparams_len = t.len;
    t = (struct params){a.remote_tparams, 0};
    extension(w, !me, &t);
    a.remote_tparams_len = t.len;
    if (me) {
        memcpy(a.crypto, w->crypto, w->crypto_len);
        a.crypto_len = w->crypto_len;
    }
    watch_start(&e->watch, w->suite, w->secrets[me], 8, a.next_pn);
    e->c = ab_quic_adopt(e->q, &a, w->now, &why);
    return e->c ? AB_QUIC_REFUSED_NONE : why;
}

void scenario_stock(struct world *w, struct end *e)
{
    struct ab_quic_cid cids[AB_QUIC_CIDS];
    uint32_t n = e->cids_wanted < AB_QUIC_CIDS ? e->cids_wanted : AB_QUIC_CIDS, taken;

    (void)w;
    e->cids_wanted = 0;
    for (uint32_t i = 0; i < n; i++)
        make_cid(w, &cids[i], e->index, e->cid_next + i);
    taken = ab_quic_stock(e->q, e->c, cids, n);
    SIM_MUST(taken <= n);
    e->cid_next += taken;
}
