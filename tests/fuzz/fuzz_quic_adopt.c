/* libFuzzer target of the adoption: an arbitrary struct ab_quic_adopt, and use of whatever comes of it.
 *
 * The input is patches to a good state (so that the fuzzer need not guess its way past the first check), then more
 * bytes that are what reaches the connection. The supervisor is trusted, but it hands over what strangers wrote:
 * transport parameters, connection IDs, tokens. Nothing may be read or written outside, and what was refused must leave
 * nothing behind. */
#include "quic.h"

#include <stdlib.h>

#include "fuzz.h"

static bool yes_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome, uint64_t first)
{
    (void)ctx, (void)c, (void)token, (void)outcome, (void)first;
    return true;
}

static bool yes_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    (void)ctx;
    MUST(e->length <= AB_QUIC_EVENT_BYTES - sizeof(*e));
    readable(body, e->length);
    return true;
}

static void no_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    (void)ctx, (void)c, (void)stream, (void)offset, (void)data, (void)len, (void)fin;
}

static void no_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    (void)ctx, (void)c, (void)stream, (void)code, (void)final_size;
}

static void no_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    (void)ctx, (void)c, (void)data, (void)len;
}

static void good(struct ab_quic_adopt *a)
{
    static const uint8_t ours[] =
        "\x01\x02\x67\x10\x04\x04\x80\x00\x40\x00\x05\x02\x50\x00\x06\x02\x50\x00\x07\x02\x50\x00"
        "\x08\x01\x10\x09\x01\x20\x20\x02\x44\xb0\x0f\x08\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0";
    static const uint8_t theirs[] =
        "\x01\x02\x67\x10\x04\x04\x80\x00\x40\x00\x05\x02\x50\x00\x06\x02\x50\x00\x07\x02\x50\x00\x08\x01\x10\x09\x01"
        "\x20"
        "\x20\x02\x44\xb0\x0f\x08\xb0\xb0\xb0\xb0\xb0\xb0\xb0\xb0\x00\x08original\x02\x10tokentokentokens";

    memset(a, 0, sizeof(*a));
    a->id = 1;
    a->version = 1;
    a->role = AB_QUIC_CLIENT;
    a->suite = 1;
    a->confirmed = 1;
    memset(a->tx_secret, 1, 32);
    memset(a->rx_secret, 2, 32);
    a->path = (struct ab_path){.local_port = 8001, .remote_port = 40000, .family = 4, .ttl = 64, .mtu = 1472};
    memcpy(a->path.local, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16);
    memcpy(a->path.remote, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x02", 16);
    memset(a->path.dmac, 2, 6);
    memset(a->path.smac, 4, 6);
    a->local_count = 2;
    a->local_cids[0].len = a->local_cids[1].len = a->peer_cids[0].len = 8;
    a->local_cids[1].seq = 1;
    a->local_cids[1].has_token = 1;
    memset(a->local_cids[0].cid, 0xa0, 8);
    memset(a->local_cids[1].cid, 0xa1, 8);
    a->peer_count = 1;
    a->peer_cids[0].has_token = 1;
    memset(a->peer_cids[0].cid, 0xb0, 8);
    memcpy(a->peer_cids[0].token, "tokentokentokens", 16);
    memcpy(a->local_tparams, ours, sizeof(ours) - 1);
    a->local_tparams_len = sizeof(ours) - 1;
    memcpy(a->remote_tparams, theirs, sizeof(theirs) - 1);
    a->remote_tparams_len = sizeof(theirs) - 1;
}

static void transmit(struct ab_quic *q, uint64_t now)
{
    static uint8_t buffers[4][1500];
    struct ab_quic_out out[4];
    uint32_t n, rounds = 0;

    do {
        for (uint32_t i = 0; i < 4; i++)
            out[i] = (struct ab_quic_out){.data = buffers[i], .room = 1500};
        n = ab_quic_tx(q, out, 4, now);
        for (uint32_t i = 0; i < n; i++)
            MUST(out[i].len && out[i].len <= 1500 && out[i].path);
        MUST(++rounds < 4096);
    } while (n == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct ab_quic_sink sink = {NULL, no_data, no_reset, no_datagram, yes_done, yes_event};
    static const struct ab_quic_config config = {.connections = 3,
                                                 .messages = 256,
                                                 .packets = 256,
                                                 .streams = 4,
                                                 .stream_bytes = 4096,
                                                 .uni_window = 64,
                                                 .bidi_window = 64,
                                                 .seed = 1,
                                                 .crypto = "libcrypto"};
    struct choices c = {data, size};
    struct ab_quic_adopt *a = malloc(sizeof(*a));
    struct ab_quic_totals t;
    struct ab_quic *q;
    struct ab_error err;
    uint64_t now = 1000000000;

    MUST(a && ab_quic_new(&q, &config, &sink, &err) == 0);
    for (int round = 0; round < 3 && c.left; round++) {
        enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;
        struct ab_quic_conn *conn;
        uint32_t patches = choose(&c) % 16;

        if (round == 0 || choose(&c) & 1)
            good(a);
        for (; patches; patches--) {
            uint32_t at = choose16(&c) % sizeof(*a), len = choose(&c) % 32;

            for (uint32_t i = 0; i < len && at + i < sizeof(*a); i++)
                ((uint8_t *)a)[at + i] = (uint8_t)choose(&c);
        }
        conn = ab_quic_adopt(q, a, now, &why);
        MUST((conn == NULL) == (why != AB_QUIC_REFUSED_NONE));
        if (!conn)
            continue;
        MUST(ab_quic_find(q, a->id) == conn && ab_quic_conn_id(conn) == a->id);
    }
    for (uint32_t turn = 0; turn < 20; turn++) {
        struct ab_quic_conn *conn = ab_quic_at(q, turn % 3);
        uint8_t noise[64];

        transmit(q, now);
        if (conn) {
            struct ab_quic_msg m = {
                .how = (enum ab_quic_send)(turn % 5), .data = data, .len = (uint32_t)AB_MIN(size, 2000u)};
            struct ab_dgram d = {.len = 40, .sport = 40000, .dport = 8001, .family = 4};
            struct ab_quic_info info;
            uint8_t mine;

            ab_quic_send(q, conn, &m, now);
            ab_quic_conn_info(q, conn, &info);
            memset(noise, (int)choose(&c), sizeof(noise));
            noise[0] = 0x40;
            memset(noise + 1, 0xa0, 8);
            d.data = exact(noise, 40);
            ab_quic_rx(q, &d, &mine, 1, now);
            free(d.data);
            if (turn == 15)
                ab_quic_close(q, conn, true, 1, "x", 1, now);
        }
        if (ab_quic_deadline(q) != UINT64_MAX)
            now = AB_MAX(now, ab_quic_deadline(q));
    }
    ab_quic_close_all(q, false, 0, "", 0, now);
    for (uint32_t turn = 0; ab_quic_deadline(q) != UINT64_MAX; turn++) {
        MUST(turn < 10000);
        now = AB_MAX(now, ab_quic_deadline(q));
        transmit(q, now);
    }
    ab_quic_totals(q, &t);
    MUST(t.connections == 0 && t.slots_used == 0 && t.blocks_used == 0 && t.objects_used == 0);
    ab_quic_free(q);
    free(a);
    return 0;
}
