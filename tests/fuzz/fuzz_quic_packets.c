/* libFuzzer target of the QUIC engine beneath the encryption: one adopted connection, and a peer that holds its keys.
 *
 * The input is a sequence of choices: datagrams as they are, frames that are sealed as the peer would, what the engine
 * itself sent, opened, changed and sealed as its peer's, acknowledgements, time, and what the application does.
 * Whatever comes:
 *
 *   - everything that leaves can be opened with the keys, numbers rise, frames are whole   (sim/c/watch.c, on
 * libcrypto)
 *   - a message has one fate; nothing is told behind CLOSED; a closed connection says nothing but CONNECTION_CLOSE
 *   - time stands still for no timer, and the pools are empty when the connection is gone */
#include "quic.h"

#include <stdlib.h>

#include "../sim/c/must.h"
#include "../sim/c/watch.h"
#include "fuzz.h"

unsigned long long sim_seed;
int sim_verbose;

enum { MOST = 1500, TOKENS = 512 };

struct state {
    struct ab_quic *q;
    struct ab_quic_conn *c;
    uint64_t now, number;
    struct watch sent, peer; /* what the engine sends; what its peer seals */
    uint8_t fate[TOKENS];
    uint32_t tokens;
    bool closed;
    uint8_t last[MOST]; /* frames of the last packet that left */
    uint32_t last_len;
    uint64_t next_offset[64];
};

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    struct state *s = ctx;

    MUST(c == s->c && !s->closed);
    readable(data, len);
    if (stream < 64) {
        MUST(s->next_offset[stream] == offset); /* in order, each byte once, nothing behind the end */
        s->next_offset[stream] = fin ? UINT64_MAX : offset + len;
    }
}

static void on_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    struct state *s = ctx;

    MUST(c == s->c && !s->closed);
    if (stream < 64) {
        MUST(s->next_offset[stream] != UINT64_MAX && final_size >= s->next_offset[stream]);
        s->next_offset[stream] = UINT64_MAX;
    }
    (void)code;
}

static void on_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    struct state *s = ctx;

    MUST(c == s->c && !s->closed);
    readable(data, len);
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome, uint64_t first)
{
    struct state *s = ctx;

    MUST(c == s->c && !s->closed && token >= 1 && token <= s->tokens && !s->fate[token - 1] && first <= s->now);
    s->fate[token - 1] = (uint8_t)(1 + outcome);
    return true;
}

static bool on_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    struct state *s = ctx;

    MUST(!s->closed && e->length <= AB_QUIC_EVENT_BYTES - sizeof(*e));
    readable(body, e->length);
    if (e->kind == AB_QUIC_EVENT_CLOSED) {
        s->closed = true;
        for (uint32_t i = 0; i < s->tokens; i++)
            MUST(s->fate[i]);
    }
    return true;
}

static uint32_t number_param(uint8_t *p, uint8_t id, uint16_t value)
{
    p[0] = id;
    p[1] = 2;
    p[2] = (uint8_t)(0x40 | value >> 8);
    p[3] = (uint8_t)value;
    return 4;
}

static uint32_t extension(uint8_t *p, bool server, uint32_t small)
{
    static const uint16_t values[][3] = {
        /* id, tiny, usual */
        {0x01, 10000, 10000}, {0x03, 1472, 1472}, {0x04, 300, 16000}, {0x05, 100, 4000}, {0x06, 100, 4000},
        {0x07, 100, 4000},    {0x08, 2, 16},      {0x09, 2, 64},      {0x0e, 2, 8},      {0x20, 1200, 1200}};
    uint32_t n = 0;

    for (uint32_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        n += number_param(p + n, (uint8_t)values[i][0], values[i][small ? 1 : 2]);
    p[n++] = 0x0f;
    p[n++] = 8;
    memset(p + n, server ? 0xb0 : 0xa0, 8);
    n += 8;
    if (server) {
        memcpy(p + n, "\x00\x08original\x02\x10", 12);
        n += 12;
        memset(p + n, 0x77, 16);
        n += 16;
    }
    return n;
}

static void transmit(struct state *s)
{
    static uint8_t buffers[8][MOST], plain[MOST];
    struct ab_quic_out out[8];
    uint32_t n, rounds = 0;

    do {
        for (uint32_t i = 0; i < 8; i++)
            out[i] = (struct ab_quic_out){.data = buffers[i], .room = MOST};
        n = ab_quic_tx(s->q, out, 8, s->now);
        for (uint32_t i = 0; i < n; i++) {
            bool closing = s->sent.closing;
            uint64_t others = 0;

            MUST(out[i].len <= MOST && out[i].conn == s->c);
            /* The input may give out connection IDs of any length; who watches knows the first one's. */
            if (out[i].len < 9 || memcmp(out[i].data + 1, "\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0", 8) != 0)
                continue;
            memset(s->sent.kinds, 0, sizeof(s->sent.kinds));
            s->last_len = watch_packet(&s->sent, out[i].data, out[i].len, plain);
            memcpy(s->last, plain, s->last_len);
            for (int k = 1; k < WATCH_KINDS; k++)
                others += k == 0x1c || k == 0x1d ? 0 : s->sent.kinds[k];
            MUST(!closing || others == 0);
        }
        MUST(++rounds < 4096);
    } while (n == 8);
    MUST(ab_quic_deadline(s->q) > s->now);
}

static void arrive(struct state *s, const uint8_t *data, uint32_t len, uint16_t port, uint8_t tos)
{
    struct ab_dgram d = {.len = len, .sport = port, .dport = 8001, .family = 4, .tos = tos};
    uint8_t mine = 0;

    d.data = exact(data, len);
    memcpy(d.src, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x02", 16);
    memcpy(d.dst, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16);
    ab_quic_rx(s->q, &d, &mine, 1, s->now);
    MUST(mine <= 1);
    free(d.data);
}

static void say(struct state *s, const uint8_t *frames, uint32_t len, uint8_t how, uint16_t port)
{
    static uint8_t packet[MOST + 64], payload[MOST];
    static const uint8_t cid[8] = {0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0};
    uint8_t to[8];

    memcpy(to, cid, 8);
    if (s->sent.packets && (how & 0xc0) == 0xc0)
        memset(to, 0xc0 + (how & 3), 8); /* another of its connection IDs */
    memcpy(payload, frames, len);
    if (how & 1)
        s->number += 1 + (how >> 4);
    if ((how & 0x0e) == 0x02 && s->number > 50) { /* an old number */
        arrive(s, packet, watch_seal(&s->peer, to, s->number - 50, 0, payload, len, packet), port, 0);
        return;
    }
    if ((how & 0x0e) == 0x04) /* the next generation, here and from now on */
        watch_update(&s->peer);
    arrive(s, packet, watch_seal(&s->peer, to, s->number++, (how & 0x0e) == 0x08 ? 0x08 : 0, payload, len, packet),
           port, how >> 6);
}

static void act(struct state *s, struct choices *c)
{
    static uint8_t data[4096];
    struct ab_quic_msg m = {.data = data};
    uint32_t what = choose(c);

    if (s->closed || s->tokens == TOKENS)
        return;
    m.how = (enum ab_quic_send)(what % 6);
    m.fin = what & 0x40;
    m.stream = what >> 3 & 31;
    m.len = choose16(c) % 3000;
    m.token = s->tokens + 1;
    m.expires = what & 0x80 ? s->now + 1000000 : 0;
    s->fate[s->tokens++] = 0;
    if (ab_quic_send(s->q, s->c, &m, s->now) != 0)
        s->tokens--;
}

static bool start(struct state *s, struct choices *c)
{
    static struct ab_quic_adopt a;
    const struct ab_quic_sink sink = {s, on_data, on_reset, on_datagram, on_done, on_event};
    uint32_t flags = choose(c), small = choose(c);
    struct ab_quic_config config = {
        .connections = 2,
        .messages = small & 1 ? 256 : 300,
        .packets = 512,
        .streams = small & 2 ? 2 : 16,
        .stream_bytes = 4096,
        .uni_window = 64,
        .bidi_window = 64,
        .burst_packets = 8,
        .cc = small & 4 ? AB_QUIC_NEWRENO : AB_QUIC_CUBIC,
        .pacing = small & 8,
        .ecn = small & 16,
        .no_mtu_discovery = small & 32,
        .skip_packets = small & 64 ? 5 : 0,
        .key_update_packets = small & 128 ? 10 : 0,
        .confidentiality_limit = small & 128 ? 50 : 0,
        .seed = 1,
        .crypto = "libcrypto",
    };
    bool server = flags & 1;
    struct ab_error err;
    enum ab_quic_refusal why;
    uint32_t secret = 32;

    memset(&a, 0, sizeof(a));
    a.id = 1;
    a.version = 1;
    a.role = server ? AB_QUIC_SERVER : AB_QUIC_CLIENT;
    a.suite = (uint8_t)(1 + (flags >> 1) % 3);
    a.confirmed = server || (flags & 0x40);
    secret = a.suite == 2 ? 48 : 32;
    memset(a.tx_secret, 1, secret);
    memset(a.rx_secret, 2, secret);
    a.path = (struct ab_path){.local_port = 8001, .remote_port = 40000, .family = 4, .ttl = 64, .mtu = 1472};
    memcpy(a.path.local, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16);
    memcpy(a.path.remote, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x02", 16);
    memset(a.path.dmac, 2, 6);
    memset(a.path.smac, 4, 6);
    a.next_pn = flags >> 5;
    a.local_count = 1 + (flags >> 3 & 3);
    for (uint32_t i = 0; i < a.local_count; i++) {
        a.local_cids[i].seq = i;
        a.local_cids[i].len = 8;
        a.local_cids[i].has_token = 1;
        memset(a.local_cids[i].cid, i ? (int)(0xc0 + i) : 0xa0, 8);
    }
    a.peer_count = 1;
    a.peer_cids[0].len = 8;
    a.peer_cids[0].has_token = !server;
    memset(a.peer_cids[0].cid, 0xb0, 8);
    memset(a.peer_cids[0].token, 0x77, 16);
    a.local_tparams_len = extension(a.local_tparams, server, flags & 0x80);
    a.remote_tparams_len = extension(a.remote_tparams, !server, flags & 0x80);
    memset(a.crypto, 0x16, 64);
    a.crypto_len = server ? 64 : 0;
    s->now = 1000000000;
    MUST(ab_quic_new(&s->q, &config, &sink, &err) == 0);
    watch_start(&s->sent, a.suite, a.tx_secret, 8, a.next_pn);
    watch_start(&s->peer, a.suite, a.rx_secret, 8, 0);
    s->c = ab_quic_adopt(s->q, &a, s->now, &why);
    return s->c != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct watch watches[2];
    static bool ready;
    static uint8_t scratch[MOST];
    struct choices c = {input, size};
    struct state *s = calloc(1, sizeof(*s));
    struct ab_quic_totals t;
    uint32_t turns = 0;

    MUST(s);
    if (!ready) {
        watch_init(&watches[0]);
        watch_init(&watches[1]);
        ready = true;
    }
    s->sent = watches[0];
    s->peer = watches[1];
    MUST(start(s, &c)); /* the connection is a good one: what is bad is what comes */
    transmit(s);
    while (c.left && turns++ < 400) {
        uint32_t op = choose(&c), len, how;

        switch (op % 10) {
        case 0: /* a datagram as it is */
            len = choose(&c);
            len = (uint32_t)AB_MIN(len, c.left);
            memcpy(scratch, c.p, len);
            if (op & 0x80 && len > 9)
                memset(scratch + 1, 0xa0, 8), scratch[0] = 0x40 | (scratch[0] & 0x3f);
            c.p += len;
            c.left -= len;
            if (len)
                arrive(s, scratch, len, 40000, 0);
            break;
        case 1:
        case 2:
        case 3: /* frames */
            how = choose(&c);
            len = choose(&c) + (op & 0x80 ? 256 : 0);
            len = (uint32_t)AB_MIN(len, c.left);
            say(s, c.p, len, (uint8_t)how, op & 0x40 ? 40001 : 40000);
            c.p += len;
            c.left -= len;
            break;
        case 4: /* its own words, changed */
            len = AB_MIN(s->last_len, 1400u);
            memcpy(scratch, s->last, len);
            for (uint32_t i = choose(&c) % 4; i && len; i--)
                scratch[choose16(&c) % len] ^= (uint8_t)(1 + choose(&c));
            say(s, scratch, len, 0, 40000);
            break;
        case 5: /* an acknowledgement of everything */
            if (s->sent.least) {
                uint64_t last = s->sent.least - 1;

                scratch[0] = 2;
                scratch[1] = (uint8_t)(0x80 | last >> 24);
                scratch[2] = (uint8_t)(last >> 16);
                scratch[3] = (uint8_t)(last >> 8);
                scratch[4] = (uint8_t)last;
                scratch[5] = scratch[6] = 0;
                scratch[7] = (uint8_t)AB_MIN(last, (uint64_t)choose(&c) % 64);
                say(s, scratch, 8, 0, 40000);
            }
            break;
        case 6:
            s->now += (uint64_t)choose16(&c) * 1000 << (op >> 4);
            break;
        case 7:
            act(s, &c);
            break;
        case 8:
            how = choose(&c);
            if (s->closed)
                break;
            if (how % 8 == 0)
                ab_quic_update_keys(s->q, s->c, s->now);
            else if (how % 8 == 1)
                ab_quic_reset_stream(s->q, s->c, how >> 3, 5);
            else if (how % 8 == 2)
                ab_quic_stop_sending(s->q, s->c, how >> 3, 5);
            else if (how % 8 == 3)
                ab_quic_ping(s->q, s->c);
            else if (how == 252)
                ab_quic_close(s->q, s->c, true, 9, "over", 4, s->now);
            else if (how == 253)
                ab_quic_drop(s->q, s->c, s->now);
            break;
        default:
            transmit(s);
        }
        if (ab_quic_deadline(s->q) <= s->now || op & 0x08)
            transmit(s);
    }
    transmit(s);
    if (!s->closed)
        ab_quic_close(s->q, s->c, false, 0, "", 0, s->now);
    for (turns = 0; ab_quic_deadline(s->q) != UINT64_MAX; turns++) {
        MUST(turns < 1000);
        s->now = AB_MAX(s->now, ab_quic_deadline(s->q));
        transmit(s);
    }
    ab_quic_totals(s->q, &t);
    MUST(s->closed && t.connections == 0 && t.slots_used == 0 && t.blocks_used == 0 && t.objects_used == 0);
    ab_quic_free(s->q);
    watches[0] = s->sent;
    watches[1] = s->peer;
    free(s);
    return 0;
}
