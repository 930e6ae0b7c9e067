/* Packets in and out of the engine: what runs for each packet, whole in one file so that the compiler sees it at once.
 *
 *   source -- burst --> short headers in a row --> ab_quic_rx         long ones, and what is not ours: quic_port_pass.c
 *   source <-- buffers of the lead, filled and sealed in place <-- ab_quic_tx
 *
 * Buffers are reserved from the lead for a whole batch before the engine is asked, because it writes into them; those
 * that it did not fill stay reserved for the next turn. */
#include "quic_port_parts.h"

static void run(struct ab_quic_port *p, struct ab_dgram *d, uint32_t count, bool socket)
{
    ab_quic_rx(p->quic, d, p->mine, count, p->now);
    if (!socket && p->to_count == 0)
        return; /* XDP redirects only what is in `cids`: what the engine does not know it has just retired */
    for (uint32_t i = 0; i < count; i++) {
        if (ab_likely(p->mine[i]))
            continue;
        /* To a socket anything may come, so the supervisor looks at it first; it knows every connection's worker. */
        if (socket)
            ab_quic_port_stray(p, &d[i]);
        else
            ab_quic_port_hand_over(p, &d[i]);
    }
}

void ab_quic_port_rx(void *port, uint32_t slot, struct ab_dgram *d, uint32_t count, uint64_t now)
{
    struct ab_quic_port *p = port;
    bool socket = p->worker->ios[slot]->kind == AB_IO_UDP;
    uint32_t first = 0;

    p->now = now;
    p->slot = slot;
    for (uint32_t i = 0; i < count; i++) {
        if (ab_likely(d[i].len && !(d[i].data[0] & AB_QUIC_PORT_LONG)))
            continue;
        if (i > first)
            run(p, d + first, i - first, socket);
        first = i + 1;
        ab_quic_port_stray(p, &d[i]);
    }
    if (count > first)
        run(p, d + first, count - first, socket);
}

static void give_back(struct ab_quic_port *p)
{
    if (p->ready)
        ab_io_tx_cancel(p->worker->ios[p->lead], p->buffers, p->ready);
    p->ready = 0;
    p->lead = AB_MAX_QUEUES;
}

static bool can_send(const struct ab_io *io)
{
    return io && (io->kind == AB_IO_XSK || (io->kind == AB_IO_UDP && io->udp.quic));
}

/* Buffers for a whole batch, as far as there are any. */
static void stock_up(struct ab_quic_port *p)
{
    struct ab_worker *w = p->worker;
    uint32_t more;

    if (ab_unlikely(p->lead == AB_MAX_QUEUES)) {
        for (uint32_t i = 0; i < w->io_count && p->lead == AB_MAX_QUEUES; i++)
            if (can_send(w->ios[w->open[i]]))
                p->lead = w->open[i];
        if (p->lead == AB_MAX_QUEUES)
            return;
    }
    if (p->ready == AB_QUIC_PORT_BATCH)
        return;
    more = ab_io_tx_reserve(w->ios[p->lead], p->buffers + p->ready, AB_QUIC_PORT_BATCH - p->ready);
    for (; more; more--, p->ready++) {
        p->outs[p->ready].data = p->buffers[p->ready].data;
        p->outs[p->ready].room = p->buffers[p->ready].room;
    }
}

/* A packet whose path leads through another source than the one it was written for. */
static void send_elsewhere(struct ab_quic_port *p, const struct ab_quic_out *out, struct ab_io *io)
{
    struct ab_txbuf buffer;

    if (!io || ab_io_tx_reserve(io, &buffer, 1) == 0 || out->len > buffer.room) {
        p->send_drops++; /* the peer does not acknowledge it, so it is sent again */
        return;
    }
    memcpy(buffer.data, out->data, out->len);
    ab_io_tx_send(io, out->path, &buffer, out->len, out->ecn);
}

uint32_t ab_quic_port_tx(void *port, uint64_t now)
{
    struct ab_quic_port *p = port;
    uint32_t sent, elsewhere = 0, kept = 0, tail, other = AB_MAX_QUEUES;
    struct ab_io *lead;

    p->now = now;
    stock_up(p);
    if (ab_unlikely(p->ready == 0))
        return 0; /* the kernel is behind */
    lead = p->worker->ios[p->lead];
    sent = ab_quic_tx(p->quic, p->outs, p->ready, now);
    for (uint32_t i = 0; i < sent; i++) {
        const struct ab_quic_out *out = &p->outs[i];
        struct ab_io *io = ab_quic_port_way_out(p, out->path);

        if (ab_likely(io == lead)) {
            ab_io_tx_send(io, out->path, &p->buffers[i], out->len, out->ecn);
            continue;
        }
        send_elsewhere(p, out, io);
        if (io)
            other = out->path->slot;
        elsewhere++;
        ab_io_tx_cancel(lead, &p->buffers[i], 1);
    }
    /* The places of what is gone are filled from the end. */
    tail = p->ready - sent;
    kept = AB_MIN(tail, sent);
    memcpy(p->buffers, p->buffers + p->ready - kept, kept * sizeof(p->buffers[0]));
    for (uint32_t i = 0; i < kept; i++) {
        p->outs[i].data = p->buffers[i].data;
        p->outs[i].room = p->buffers[i].room;
    }
    p->ready = tail;
    if (ab_unlikely(elsewhere * 2 > sent) && other != AB_MAX_QUEUES) {
        give_back(p);
        p->lead = other;
    }
    return sent;
}

void ab_quic_port_closing(void *port, uint32_t slot)
{
    struct ab_quic_port *p = port;

    if (p->lead == slot)
        give_back(p);
}
