/* Life of the port: engine, rings and worker are tied together, and come apart again. */
#include "quic_port_parts.h"

#include <stdlib.h>

static uint64_t port_deadline(void *port)
{
    struct ab_quic_port *p = port;

    return ab_quic_deadline(p->quic);
}

static bool port_doze(void *port, bool asleep)
{
    struct ab_quic_port *p = port;

    return ab_quic_ring_doze(&p->commands, asleep);
}

int ab_quic_port_new(struct ab_quic_port **port, struct ab_worker *w, const struct ab_quic_config *config,
                     void *commands, uint64_t command_bytes, void *events, uint64_t event_bytes, struct ab_error *err)
{
    struct ab_quic_port *p;
    struct ab_quic_sink sink = ab_quic_port_sink;
    int rc;

    *port = NULL;
    if (w->guest.ctx)
        return ab_fail(err, AB_EINVAL, "this worker has a QUIC engine already");
    p = aligned_alloc(AB_CACHELINE, (sizeof(*p) + AB_CACHELINE - 1) & ~(size_t)(AB_CACHELINE - 1));
    if (!p)
        return ab_fail(err, AB_ENOMEM, "no memory for the QUIC port");
    memset(p, 0, sizeof(*p));
    p->worker = w;
    p->lead = AB_MAX_QUEUES;
    p->base = *w->stats;
    p->connections = config->connections ? config->connections : AB_QUIC_PORT_TABLE;
    p->connections_limit = config->connections_limit ? config->connections_limit : p->connections;
    p->message = calloc(1, AB_QUIC_PORT_MESSAGE);
    p->seen = calloc(p->connections, sizeof(*p->seen));
    if (!p->message || !p->seen) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for the QUIC port");
        goto fail;
    }
    sink.ctx = p;
    if ((rc = ab_quic_ring_open(&p->commands, commands, command_bytes, AB_QUIC_COMMAND_BYTES, false, err)) ||
        (rc = ab_quic_ring_open(&p->events, events, event_bytes, AB_QUIC_EVENT_BYTES, true, err)) ||
        (rc = ab_quic_new(&p->quic, config, &sink, err)))
        goto fail;
    ab_quic_touch(p->quic);
    w->guest = (struct ab_guest){.ctx = p,
                                 .commands = ab_quic_port_commands,
                                 .rx = ab_quic_port_rx,
                                 .tx = ab_quic_port_tx,
                                 .deadline = port_deadline,
                                 .beat = ab_quic_port_beat,
                                 .closing = ab_quic_port_closing,
                                 .doze = port_doze,
                                 .bell = -1};
    p->news_bell = -1;
    *port = p;
    return 0;
fail:
    ab_quic_port_free(p);
    return rc;
}

void ab_quic_port_bells(struct ab_quic_port *p, int work, int news)
{
    p->worker->guest.bell = work;
    p->news_bell = news;
}

int ab_quic_port_peer(struct ab_quic_port *p, void *memory, uint64_t bytes, bool outgoing, struct ab_error *err)
{
    uint32_t *count = outgoing ? &p->to_count : &p->from_count;
    struct ab_quic_ring_end **rings = outgoing ? p->to : p->from, *ring;
    int rc;

    if (*count == AB_QUIC_PORT_PEERS)
        return ab_fail(err, AB_EINVAL, "a worker hands packets over to %d others at most", AB_QUIC_PORT_PEERS);
    ring = aligned_alloc(AB_CACHELINE, sizeof(*ring));
    if (!ring)
        return ab_fail(err, AB_ENOMEM, "no memory for a ring between workers");
    rc = ab_quic_ring_open(ring, memory, bytes, AB_QUIC_EVENT_BYTES, outgoing, err);
    if (rc) {
        free(ring);
        return rc;
    }
    rings[(*count)++] = ring;
    return 0;
}

int ab_quic_port_show(struct ab_quic_port *p, void *memory, uint64_t bytes, struct ab_error *err)
{
    const char *reason = "", *name = ab_quic_crypto_name(p->quic, &reason);
    int rc = ab_quic_rows_open(&p->rows, memory, bytes, err);

    if (rc)
        return rc;
    strncpy((char *)p->rows.head->crypto, name, sizeof(p->rows.head->crypto) - 1);
    strncpy((char *)p->rows.head->crypto_reason, reason ? reason : "", sizeof(p->rows.head->crypto_reason) - 1);
    return 0;
}

void ab_quic_port_free(struct ab_quic_port *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->to_count; i++)
        free(p->to[i]);
    for (uint32_t i = 0; i < p->from_count; i++)
        free(p->from[i]);
    if (p->worker->guest.ctx == p)
        p->worker->guest = (struct ab_guest){0};
    if (p->quic)
        ab_quic_free(p->quic);
    free(p->message);
    free(p->seen);
    free(p);
}
