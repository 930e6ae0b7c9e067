#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "program.h"
#include "quic_end.h"
#include "quic_frame.h"
#include "quic_tparams.h"

enum {
    RX_SLOT = 0,
    TX_SLOT = 1, /* only where it is of another kind */
    COMMAND_SLOTS = 2,
    EVENT_SLOTS = 256,
    CLIENT = 1, /* first byte of connection IDs and secrets */
    SERVER = 2,
};

/* How long this thread was ready to run and did not, ns; 0 where the kernel does not tell. What it spoils is not ours.
 */
static uint64_t waited(void)
{
    unsigned long long ran, delay = 0;
    FILE *f = fopen("/proc/self/schedstat", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &ran, &delay) != 2)
        delay = 0;
    fclose(f);
    return delay;
}

static void *ring_memory(uint32_t slots, uint32_t slot_bytes)
{
    struct ab_quic_ring *ring = aligned_alloc(AB_CACHELINE, sizeof(*ring) + (size_t)slots * slot_bytes);

    if (ring) {
        memset(ring, 0, sizeof(*ring) + (size_t)slots * slot_bytes);
        *ring = (struct ab_quic_ring){
            .magic = AB_QUIC_RING_MAGIC, .version = AB_VERSION, .slot_bytes = slot_bytes, .slots = slots};
    }
    return ring;
}

static int open_socket(const struct ab_lab_options *o, struct ab_error *err)
{
    int family = ab_lab_options_family(o), fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = o->from.sin6_port};
    int one = 1;

    if (fd < 0)
        return ab_fail(err, -errno, "socket(UDP): %s", strerror(errno));
    memcpy(&in.sin_addr, o->from.sin6_addr.s6_addr + 12, 4);
    /* Two processes of one end, or the port's reservation beside AF_XDP, may share it. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, family == AF_INET ? (void *)&in : (void *)&o->from,
             family == AF_INET ? sizeof(in) : sizeof(o->from))) {
        int rc = ab_fail(err, -errno, "bind(UDP port %u): %s", ntohs(o->from.sin6_port), strerror(errno));

        close(fd);
        return rc;
    }
    return fd;
}

static int read_given(struct ab_lab_quic_end *e, const char *path, struct ab_error *err)
{
    FILE *f = fopen(path, "rb");
    size_t got;

    if (!f)
        return ab_fail(err, -errno, "open(%s): %s", path, strerror(errno));
    e->given = calloc(1, sizeof(*e->given));
    got = e->given ? fread(e->given, 1, sizeof(*e->given), f) : 0;
    fclose(f);
    if (got != sizeof(*e->given))
        return ab_fail(err, AB_EINVAL, "--adopt %s: %zu bytes instead of a struct ab_quic_adopt of %zu", path, got,
                       sizeof(*e->given));
    return 0;
}

static uint64_t cid_of(uint32_t who, uint32_t index)
{
    uint8_t bytes[8] = {(uint8_t)who,  0, 0, 0, (uint8_t)(index >> 24), (uint8_t)(index >> 16), (uint8_t)(index >> 8),
                        (uint8_t)index};
    uint64_t cid;

    memcpy(&cid, bytes, sizeof(cid));
    return cid;
}

/* Our address is QUIC's, our connection IDs are known. */
static int load(struct ab_lab_quic_end *e, const struct ab_lab_options *o, int fd, unsigned ifindex,
                struct ab_error *err)
{
    struct ab_bpf_map map;
    int rc;

    if ((rc = ab_lab_program_load(&e->bpf, o, AB_PORT_KIND_QUIC, 2 * o->conns, err)) ||
        (rc = ab_bpf_map(&e->bpf, "cids", &map, err)))
        return rc;
    for (uint32_t i = 0; i < o->conns; i++) {
        uint64_t cid = cid_of(o->server ? SERVER : CLIENT, i);
        struct ab_cid owner = {.queue = (uint16_t)o->queue};

        if (e->given)
            memcpy(&cid, e->given->local_cids[0].cid, sizeof(cid));
        if ((rc = ab_bpf_set(&map, &cid, &owner, err)))
            return rc;
    }
    return ab_lab_program_attach(&e->bpf, o, fd, ifindex, err);
}

static int open_queue(struct ab_lab_quic_end *e, const struct ab_lab_options *o, uint32_t slot, struct ab_error *err)
{
    struct ab_xsk_config config = {
        .queue = o->queue,
        .frames = o->frames,
        .frame_size = o->frame_size,
        .ring = o->ring,
        .want = AB_XSK_COPY,
        .generic = o->generic,
        .busy_poll = o->busy_poll,
        .busy_usecs = 20,
        .busy_budget = 64,
    };
    int fd, rc;

    if (!o->device || !o->bpf)
        return ab_fail(err, AB_EINVAL, "QUIC over AF_XDP needs --device and --bpf");
    config.ifindex = if_nametoindex(o->device);
    if (!config.ifindex)
        return ab_fail(err, -errno, "no interface %s here: %s", o->device, strerror(errno));
    fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return ab_fail(err, -errno, "socket(AF_XDP): %s", strerror(errno));
    /* Also an end that only sends has the program: a veth receives natively for a peer that has one. */
    if (!o->rx_socket && (rc = load(e, o, fd, config.ifindex, err))) {
        close(fd);
        return rc;
    }
    return ab_worker_open_xsk(&e->worker, slot, fd, &config, false, &e->queue_stats[slot], err);
}

static int open_source(struct ab_lab_quic_end *e, const struct ab_lab_options *o, uint32_t slot, bool socket,
                       struct ab_error *err)
{
    int fd;

    if (!socket)
        return open_queue(e, o, slot, err);
    fd = open_socket(o, err);
    return fd < 0 ? fd : ab_worker_open_udp(&e->worker, slot, fd, AB_UDP_QUIC, 0, &e->queue_stats[slot], err);
}

/* A side's parameters as it would have sent them: room for everything that the engine can take. */
static uint32_t parameters(uint8_t *out, bool server, uint64_t cid, const struct ab_quic_config *config)
{
    struct ab_quic_tparams t;
    struct ab_quic_writer w = {.p = out, .end = out + AB_QUIC_TPARAMS};

    ab_quic_tparams_init(&t);
    t.max_idle_timeout_ms = 60000;
    t.initial_max_data = 1ull << 30;
    t.initial_max_stream_data_uni = t.initial_max_stream_data_bidi_local = t.initial_max_stream_data_bidi_remote =
        config->stream_bytes;
    t.initial_max_streams_uni = config->uni_window;
    t.initial_max_streams_bidi = 16;
    t.active_connection_id_limit = 4;
    t.max_datagram_frame_size = 1200;
    t.initial_source_cid.present = true;
    t.initial_source_cid.len = 8;
    memcpy(t.initial_source_cid.bytes, &cid, 8);
    if (server) {
        t.original_destination_cid = t.initial_source_cid;
        t.has_reset_token = true;
    }
    if (!ab_quic_tparams_write(&w, &t, server))
        return 0;
    return (uint32_t)(w.p - out);
}

static void secret(uint8_t *out, uint32_t who, uint32_t index)
{
    memset(out, 0, 48);
    memset(out, (int)(0x40 + who), 32);
    memcpy(out, &index, sizeof(index));
}

/* The way to the other end, as the supervisor would have found it. */
static void fill_path(struct ab_quic_adopt *a, const struct ab_lab_options *o)
{
    memcpy(a->path.local, &o->from.sin6_addr, 16);
    memcpy(a->path.remote, &o->to.sin6_addr, 16);
    a->path.local_port = ntohs(o->from.sin6_port);
    a->path.remote_port = ntohs(o->to.sin6_port);
    memcpy(a->path.smac, o->smac, 6);
    memcpy(a->path.dmac, o->dmac, 6);
    a->path.family = ab_lab_options_family(o) == AF_INET ? 4 : 6;
    a->path.mtu = (uint16_t)o->mtu;
    a->path.io = o->tx_socket;
    a->path.slot = o->tx_socket == o->rx_socket ? RX_SLOT : TX_SLOT;
}

static int adopt_given(struct ab_lab_quic_end *e, const struct ab_lab_options *o, struct ab_error *err)
{
    enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;

    fill_path(e->given, o);
    e->conns[0] = ab_quic_adopt(e->port->quic, e->given, ab_now_ns(), &why);
    memset(e->given, 0, sizeof(*e->given));
    return e->conns[0] ? 0
                       : ab_fail(err, AB_EINVAL, "the connection of --adopt was not adopted: enum ab_quic_refusal %d",
                                 (int)why);
}

static int adopt(struct ab_lab_quic_end *e, const struct ab_lab_options *o, const struct ab_quic_config *config,
                 struct ab_error *err)
{
    uint32_t us = o->server ? SERVER : CLIENT, them = o->server ? CLIENT : SERVER;
    struct ab_quic_adopt *a;

    if (e->given)
        return adopt_given(e, o, err);
    a = calloc(1, sizeof(*a));
    if (!a)
        return ab_fail(err, AB_ENOMEM, "no memory for an adoption");
    fill_path(a, o);
    a->version = 1;
    a->role = o->server ? AB_QUIC_SERVER : AB_QUIC_CLIENT;
    a->suite = (uint8_t)o->suite;
    a->confirmed = 1;
    a->local_count = a->peer_count = 1;
    for (uint32_t i = 0; i < o->conns; i++) {
        uint64_t ours = cid_of(us, i), theirs = cid_of(them, i);
        enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;

        a->id = i + 1;
        secret(a->tx_secret, us, i);
        secret(a->rx_secret, them, i);
        a->local_cids[0] = (struct ab_quic_cid){.len = 8, .has_token = 1};
        a->peer_cids[0] = (struct ab_quic_cid){.len = 8, .has_token = !o->server};
        memcpy(a->local_cids[0].cid, &ours, 8);
        memcpy(a->peer_cids[0].cid, &theirs, 8);
        memcpy(a->local_cids[0].token, &ours, 8);
        memcpy(a->peer_cids[0].token, &theirs, 8);
        a->local_tparams_len = parameters(a->local_tparams, o->server, ours, config);
        a->remote_tparams_len = parameters(a->remote_tparams, !o->server, theirs, config);
        e->conns[i] = ab_quic_adopt(e->port->quic, a, ab_now_ns(), &why);
        if (!e->conns[i]) {
            free(a);
            return ab_fail(err, AB_EINVAL, "connection %u was not adopted: enum ab_quic_refusal %d", i, (int)why);
        }
    }
    free(a);
    return 0;
}

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t v = 1;

    while (v < at_least)
        v *= 2;
    return v;
}

int ab_lab_quic_end_open(struct ab_lab_quic_end **end, const struct ab_lab_options *o, struct ab_error *err)
{
    struct ab_quic_config config = {
        .connections = o->conns,
        .messages = power_of_two(o->window) * 2,
        .packets = 65536 + 64 * o->conns,
        .uni_window = power_of_two(o->window) * 2,
        .stream_bytes = 16384,
        .burst_packets = AB_QUIC_PORT_BATCH,
        .pack = o->pack,
        .crypto = o->crypto,
        .keep_alive_ms = 1000, /* as the product has it */
        .seed = 1,
    };
    struct ab_rule rule = {.port = ntohs(o->from.sin6_port), .decoder = AB_DECODER_QUIC};
    struct ab_lab_quic_end *e = calloc(1, sizeof(*e));
    int rc;

    if (!e)
        return ab_fail(err, AB_ENOMEM, "no memory for an end of QUIC");
    *end = e;
    e->bpf.link_fd = -1;
    memcpy(rule.addr, &o->from.sin6_addr, sizeof(rule.addr));
    ab_worker_init(&e->worker, 0, &e->worker_stats, e->rule_stats, &e->bell);
    e->conns = calloc(o->conns, sizeof(*e->conns));
    e->commands = ring_memory(COMMAND_SLOTS, AB_QUIC_COMMAND_BYTES);
    e->events = ring_memory(EVENT_SLOTS, AB_QUIC_EVENT_BYTES);
    if (!e->conns || !e->commands || !e->events) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for an end of QUIC");
        goto fail;
    }
    if (o->adopt && o->conns != 1) {
        rc = ab_fail(err, AB_EINVAL, "--adopt: one connection, --conns 1");
        goto fail;
    }
    if (o->adopt && (rc = read_given(e, o->adopt, err)))
        goto fail;
    if ((rc = ab_rules_init(&e->worker.rules, &rule, 1, err)) || (rc = open_source(e, o, RX_SLOT, o->rx_socket, err)) ||
        (o->rx_socket != o->tx_socket && (rc = open_source(e, o, TX_SLOT, o->tx_socket, err))) ||
        (rc = ab_quic_port_new(&e->port, &e->worker, &config, e->commands,
                               sizeof(*e->commands) + COMMAND_SLOTS * AB_QUIC_COMMAND_BYTES, e->events,
                               sizeof(*e->events) + EVENT_SLOTS * AB_QUIC_EVENT_BYTES, err)) ||
        (rc = adopt(e, o, &config, err)))
        goto fail;
    e->waited_ns = waited();
    ab_worker_enter(&e->worker);
    return 0;
fail:
    ab_lab_quic_end_close(e);
    *end = NULL;
    return rc;
}

void ab_lab_quic_end_close(struct ab_lab_quic_end *e)
{
    if (!e)
        return;
    ab_worker_fini(&e->worker);
    ab_quic_port_free(e->port);
    ab_bpf_close(&e->bpf);
    free(e->conns);
    free(e->given);
    free(e->commands);
    free(e->events);
    free(e);
}

void ab_lab_quic_end_awake(struct ab_lab_quic_end *e)
{
    e->waited_ns = waited();
}

int ab_lab_quic_end_listen(struct ab_lab_quic_end *e, struct ab_error *err)
{
    struct ab_quic_ring *r = e->events;

    for (; r->tail != r->head; r->tail++) {
        const uint8_t *slot = (const uint8_t *)(r + 1) + r->tail % EVENT_SLOTS * AB_QUIC_EVENT_BYTES;
        struct ab_quic_event event;

        memcpy(&event, slot, sizeof(event));
        if (event.kind != AB_QUIC_EVENT_CLOSED)
            continue;
        e->closed++;
        return ab_fail(err, AB_EINVAL, "connection %llu has ended: enum ab_quic_close %u, code 0x%llx, %.*s",
                       (unsigned long long)event.conn, event.by, (unsigned long long)event.code,
                       (int)(event.length - AB_MIN(event.length, (uint32_t)sizeof(struct ab_quic_closed))),
                       (const char *)slot + sizeof(event) + sizeof(struct ab_quic_closed));
    }
    return 0;
}

void ab_lab_quic_end_print(const struct ab_lab_quic_end *e)
{
    const struct ab_stats_worker *w = &e->worker_stats;
    const struct ab_quic_port *p = e->port;
    struct ab_quic_totals t;
    uint64_t kicks = 0, rx = 0, tx = 0, dropped = 0, errors = 0;

    for (unsigned i = 0; i < AB_ARRAY_LEN(e->queue_stats); i++) {
        const struct ab_stats_queue *q = &e->queue_stats[i];

        kicks += q->tx_kicks + q->rx_kicks;
        rx += q->rx_packets;
        tx += q->tx_packets;
        dropped += q->tx_dropped;
        errors += q->frame_errors;
    }
    e->worker.guest.beat(e->worker.guest.ctx, e->worker.now); /* sums up to now */
    ab_quic_totals(p->quic, &t);
    printf("\"waited_ns\":%llu,\"busy_ns\":%llu,\"run_ns\":%llu,\"turns\":%llu,\"kicks\":%llu,\"rx_packets\":%llu,\"tx_"
           "packets\":%llu,"
           "\"tx_dropped\":%llu,\"frame_errors\":%llu,\"quic_sent\":%llu,\"quic_received\":%llu,\"quic_lost\":%llu,"
           "\"spurious\":%llu,\"resent\":%llu,\"blocked_streams_ns\":%llu,\"blocked_credit_ns\":%llu,\"blocked_window_"
           "ns\":%llu,\"ptos\":%llu,"
           "\"undecryptable\":%llu,\"unknown\":%llu,\"memory_bytes\":%llu,\"connection_bytes\":%llu",
           (unsigned long long)(waited() - e->waited_ns), (unsigned long long)w->busy_ns, (unsigned long long)w->run_ns,
           (unsigned long long)w->turns, (unsigned long long)kicks, (unsigned long long)rx, (unsigned long long)tx,
           (unsigned long long)dropped, (unsigned long long)errors, (unsigned long long)p->counts.packets_sent,
           (unsigned long long)p->counts.packets_received, (unsigned long long)p->counts.packets_lost,
           (unsigned long long)p->counts.packets_spurious, (unsigned long long)p->counts.messages_resent,
           (unsigned long long)p->counts.blocked_streams_ns, (unsigned long long)p->counts.blocked_credit_ns,
           (unsigned long long)p->counts.blocked_window_ns, (unsigned long long)p->counts.ptos,
           (unsigned long long)p->counts.packets_undecryptable, (unsigned long long)t.rx_unknown,
           (unsigned long long)t.memory_bytes, (unsigned long long)t.connection_bytes);
}
