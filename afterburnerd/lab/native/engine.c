/* Two engines, no network: what a core can do with QUIC when nothing but QUIC is asked of it.
 *
 *   client engine --ab_quic_tx--> array of buffers --ab_quic_rx--> server engine       stream data, counted by FIN
 *        ^                                                              |
 *        '----------------- ab_quic_rx <-- buffers <-- ab_quic_tx ------'              acknowledgements, credit
 *
 * Everything is real but the wire: encryption, header protection, numbers, acknowledgements, congestion and flow
 * control. A transaction counts when the server has told its last byte with FIN and the client was told that it is
 * acknowledged. */
#include <string.h>
#include <sys/mman.h>

#include "engine.h"
#include "quic_crypto.h"
#include "quic_tparams.h"

#define WIRE 64     /* datagrams that are on their way together: one batch */
#define BUFFER 2048 /* bytes between two of them */
#define AHEAD 640   /* transactions that wait or are under way at most: two batches of packets */
#define CHUNK 64    /* transactions accepted between two looks at the clock */

struct end {
    struct ab_quic *q;
    struct ab_quic_conn *c;
    uint64_t fins, bytes;   /* server: told with FIN */
    uint64_t acked, failed; /* client: fates */
};

/* A call that takes longer than this was interrupted: a batch of 64 packets takes some 30 us. It counts in the rate,
 * but says nothing of where time goes. */
#define INTERRUPTED_CYCLES 300000

struct bench {
    struct end client, server;
    struct ab_quic_out out[WIRE];
    struct ab_dgram in[WIRE];
    uint8_t *memory;
    uint64_t packets[2], bytes[2]; /* from client, from server */
    uint64_t turns;
    struct ab_engine_stage stage[AB_ENGINE_STAGES];
};

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    struct end *e = ctx;

    (void)c, (void)stream, (void)offset, (void)data;
    e->bytes += len;
    e->fins += fin;
}

static void on_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    (void)ctx, (void)c, (void)stream, (void)code, (void)final_size;
}

static void on_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    (void)ctx, (void)c, (void)data, (void)len;
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome, uint64_t first)
{
    struct end *e = ctx;

    (void)c, (void)token, (void)first;
    e->acked += outcome == AB_QUIC_OUTCOME_ACKNOWLEDGED;
    e->failed += outcome != AB_QUIC_OUTCOME_ACKNOWLEDGED;
    return true;
}

static bool on_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    (void)ctx, (void)body;
    if (e->kind == AB_QUIC_EVENT_CLOSED)
        fprintf(stderr, "afterburner-labio: engine: connection closed by %u: code %llu, frame %llu\n", e->by,
                (unsigned long long)e->code, (unsigned long long)e->number);
    return true;
}

/* The transport parameters of one side, as the other side's TLS would have read them. */
static uint32_t write_params(uint8_t *room, bool server)
{
    struct ab_quic_tparams t;
    struct ab_quic_writer w = {room, room + AB_QUIC_TPARAMS};

    ab_quic_tparams_init(&t);
    t.initial_max_data = 64 << 20;
    t.initial_max_stream_data_uni = 4096;
    t.initial_max_streams_uni = 16384;
    t.max_udp_payload_size = 1472;
    t.active_connection_id_limit = 4;
    t.initial_source_cid.present = true;
    t.original_destination_cid.present = server;
    return ab_quic_tparams_write(&w, &t, server) ? (uint32_t)(w.p - room) : 0;
}

static int adopt(struct end *e, bool server, uint32_t suite, struct ab_error *err)
{
    static struct ab_quic_adopt a;
    enum ab_quic_refusal why;

    memset(&a, 0, sizeof(a));
    a.id = 1;
    a.version = 1;
    a.role = server ? AB_QUIC_SERVER : AB_QUIC_CLIENT;
    a.suite = (uint8_t)suite;
    memset(server ? a.tx_secret : a.rx_secret, 0x5e, 48);
    memset(server ? a.rx_secret : a.tx_secret, 0xc1, 48);
    a.local_count = a.peer_count = 1;
    a.local_cids[0].len = a.peer_cids[0].len = AB_CID_LEN;
    memset(a.local_cids[0].cid, server ? 0x22 : 0x11, AB_CID_LEN);
    memset(a.peer_cids[0].cid, server ? 0x11 : 0x22, AB_CID_LEN);
    a.local_tparams_len = write_params(a.local_tparams, server);
    a.remote_tparams_len = write_params(a.remote_tparams, !server);
    a.path.family = 4;
    a.path.mtu = 1472;
    a.path.local_port = server ? 2 : 1;
    a.path.remote_port = server ? 1 : 2;
    e->c = ab_quic_adopt(e->q, &a, 1, &why);
    return e->c ? 0 : ab_fail(err, AB_EINVAL, "engine: adoption refused: %d", why);
}

static int open_end(struct end *e, const struct ab_lab_options *o, uint32_t pack, struct ab_error *err)
{
    struct ab_quic_config config = {.connections = 4,
                                    .messages = 16384,
                                    .packets = 1 << 16,
                                    .pack = pack,
                                    .burst_packets = WIRE,
                                    .initial_window = 1 << 20,
                                    .seed = 0x0123456789abcdefULL,
                                    .crypto = o->crypto,
                                    .skip_packets = 10000};
    const struct ab_quic_sink sink = {
        .ctx = e, .data = on_data, .reset = on_reset, .datagram = on_datagram, .done = on_done, .event = on_event};

    return ab_quic_new(&e->q, &config, &sink, err);
}

static void count(struct bench *b, int stage, uint64_t cycles, uint32_t n)
{
    if (cycles > INTERRUPTED_CYCLES)
        return;
    b->stage[stage].cycles += cycles;
    b->stage[stage].count += n;
}

/* Carries what `from` has to send over to `to`, at `now`. */
static uint32_t carry(struct bench *b, struct end *from, struct end *to, int way, uint64_t now)
{
    uint64_t t0 = ab_engine_cycles(), t1;
    uint32_t n = ab_quic_tx(from->q, b->out, WIRE, now);

    t1 = ab_engine_cycles();
    if (n == 0)
        return 0;
    count(b, AB_ENGINE_TX + way, t1 - t0, n);
    for (uint32_t i = 0; i < n; i++) {
        b->in[i].data = b->out[i].data;
        b->in[i].len = b->out[i].len;
        b->in[i].sport = b->out[i].path->local_port;
        b->in[i].dport = b->out[i].path->remote_port;
        b->in[i].family = 4;
        b->bytes[way] += b->out[i].len;
    }
    b->packets[way] += n;
    t0 = ab_engine_cycles();
    ab_quic_rx(to->q, b->in, NULL, n, ab_now_ns());
    count(b, AB_ENGINE_RX + way, ab_engine_cycles() - t0, n);
    return n;
}

/* One turn of both ends: as many transactions as there is room for, then datagrams until nothing is left to send. */
static void turn(struct bench *b, const uint8_t *payload, uint32_t size, uint64_t *offered, uint64_t now)
{
    uint64_t t0 = ab_engine_cycles();
    uint32_t n = 0;

    while (n < CHUNK * 4 && *offered - b->client.acked < AHEAD) {
        struct ab_quic_msg m = {.how = AB_QUIC_SEND_UNI, .token = *offered, .data = payload, .len = size};

        if (ab_quic_send(b->client.q, b->client.c, &m, now))
            break;
        ++*offered;
        n++;
    }
    count(b, AB_ENGINE_SEND, ab_engine_cycles() - t0, n);
    carry(b, &b->client, &b->server, 0, now);
    carry(b, &b->server, &b->client, 1, ab_now_ns());
    b->turns++;
}

static void print(const struct ab_lab_options *o, const struct bench *b, uint32_t pack, double seconds, double cpu,
                  double ghz)
{
    static const char *names[] = {"send", "tx_data", "tx_ack", "rx_data", "rx_ack"};
    uint64_t whole = AB_MIN(b->server.fins, b->client.acked);

    printf("{\"pack\": %u, \"size\": %u, \"suite\": %u, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"transactions\": "
           "%llu, \"fins\": %llu, "
           "\"acked\": %llu, "
           "\"failed\": %llu, \"rate\": %.1f, \"packets\": %llu, \"packets_back\": %llu, \"bytes\": %llu, "
           "\"bytes_back\": %llu, \"turns\": %llu, \"crypto\": \"%s\"",
           pack, o->size, o->suite, seconds, cpu, (unsigned long long)whole, (unsigned long long)b->server.fins,
           (unsigned long long)b->client.acked, (unsigned long long)b->client.failed, (double)whole / seconds,
           (unsigned long long)b->packets[0], (unsigned long long)b->packets[1], (unsigned long long)b->bytes[0],
           (unsigned long long)b->bytes[1], (unsigned long long)b->turns, ab_quic_crypto_name(b->client.q, NULL));
    for (int i = 0; i < AB_ENGINE_STAGES; i++)
        printf(", \"ns_%s\": %.3f", names[i], (double)b->stage[i].cycles / ghz / (double)AB_MAX(b->stage[i].count, 1u));
    printf("}\n");
    fflush(stdout);
}

/* One round, until `end`, and what it was like. Transactions that were under way when it began count in it, those that
 * are under way when it ends do not: the numbers of both are bounded by AHEAD. */
static uint64_t measure(struct bench *b, const struct ab_lab_options *o, const uint8_t *payload, uint64_t *offered,
                        uint64_t end)
{
    uint64_t start, now, c0, cpu;
    double seconds;

    *offered -= b->client.acked;
    b->client.acked = b->server.fins = b->server.bytes = b->turns = 0;
    memset(b->packets, 0, sizeof(b->packets));
    memset(b->bytes, 0, sizeof(b->bytes));
    memset(b->stage, 0, sizeof(b->stage));
    cpu = ab_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    start = now = ab_now_ns();
    c0 = ab_engine_cycles();
    for (; now < end && !ab_lab_stop; now = ab_now_ns())
        turn(b, payload, o->size, offered, now);
    seconds = (double)(now - start) / 1e9;
    cpu = ab_clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    print(o, b, o->pack, seconds, (double)cpu / 1e9, (double)(ab_engine_cycles() - c0) / (double)(now - start));
    return now;
}

int ab_lab_engine(const struct ab_lab_options *o, struct ab_error *err)
{
    static struct bench b;
    uint8_t payload[4096];
    uint64_t offered = 0, end, now;
    int rc;

    if (o->size == 0 || o->size > sizeof(payload))
        return ab_fail(err, AB_EINVAL, "engine: --size %u: 1 to %zu", o->size, sizeof(payload));
    memset(&b, 0, sizeof(b));
    for (uint32_t i = 0; i < o->size; i++)
        payload[i] = (uint8_t)(i * 7 + 3);
    b.memory = mmap(NULL, WIRE * BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (b.memory == MAP_FAILED)
        return ab_fail(err, AB_ENOMEM, "engine: no memory");
    for (uint32_t i = 0; i < WIRE; i++) {
        b.out[i].data = b.memory + (size_t)i * BUFFER;
        b.out[i].room = 1472;
    }
    if ((rc = open_end(&b.client, o, o->pack, err)) || (rc = open_end(&b.server, o, 0, err)) ||
        (rc = adopt(&b.client, false, o->suite, err)) || (rc = adopt(&b.server, true, o->suite, err)))
        goto out;
    now = ab_now_ns();
    for (end = now + o->warm_ns + 1; now < end && !ab_lab_stop; now = ab_now_ns())
        turn(&b, payload, o->size, &offered, now);
    for (end = now + o->duration_ns; now < end && !ab_lab_stop && !b.client.failed;)
        now = measure(&b, o, payload, &offered, AB_MIN(o->interval_ns ? now + o->interval_ns : end, end));
    if (b.client.failed)
        rc = ab_fail(err, AB_EINVAL, "engine: %llu transactions failed", (unsigned long long)b.client.failed);
out:
    ab_quic_free(b.client.q);
    ab_quic_free(b.server.q);
    munmap(b.memory, WIRE * BUFFER);
    return rc;
}
