/* Sending through a source of either kind: see io.h for what the calls promise. */
#include "io.h"

/* Frames that may still be taken for sending: the half that is not for receiving, less what is on its way or reserved.
 * In the turns in which replies borrow frames of the other half, fewer. */
static uint32_t frames_left(struct ab_xsk *x)
{
    uint64_t half = x->umem.frames - x->rx_target, used = x->submitted - x->completed + x->reserved;

    return used >= half ? 0 : AB_MIN((uint32_t)(half - used), x->umem.free_count);
}

static uint32_t reserve_xsk(struct ab_xsk *x, struct ab_txbuf *out, uint32_t count)
{
    uint32_t left = frames_left(x);

    if (ab_unlikely(left < count)) {
        ab_xsk_reap(x);
        left = frames_left(x);
    }
    count = AB_MIN(count, left);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t addr = 0;

        ab_umem_get(&x->umem, &addr);
        out[i] = (struct ab_txbuf){.data = ab_xsk_data(x, addr) + AB_PATH_ROOM,
                                   .room = x->umem.frame_size - AB_PATH_ROOM,
                                   .addr = addr + AB_PATH_ROOM};
    }
    x->held += count;
    x->reserved += count;
    return count;
}

/* A slot to write to and the frames that the longest packet takes, for each: what was reserved can be sent. */
static uint32_t reserve_long(struct ab_xsk *x, struct ab_txbuf *out, uint32_t count)
{
    struct ab_xsk_long *l = x->longs;

    count = AB_MIN(count, l->free_count);
    if (frames_left(x) < count * l->parts) {
        ab_xsk_reap(x);
        count = AB_MIN(count, frames_left(x) / l->parts);
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = l->free[--l->free_count];

        for (uint32_t part = 0; part < l->parts; part++)
            ab_umem_get(&x->umem, &l->frames[slot][part]);
        out[i] = (struct ab_txbuf){.data = l->area + (size_t)slot * AB_XSK_LONG_STRIDE + AB_PATH_ROOM,
                                   .room = AB_XSK_JUMBO_BYTES - AB_PATH_ROOM,
                                   .addr = slot};
    }
    x->held += count * l->parts;
    x->reserved += count * l->parts;
    return count;
}

static void cancel_long(struct ab_xsk *x, const struct ab_txbuf *buffers, uint32_t count)
{
    struct ab_xsk_long *l = x->longs;

    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t part = 0; part < l->parts; part++)
            ab_umem_put(&x->umem, l->frames[buffers[i].addr][part]);
        l->free[l->free_count++] = (uint8_t)buffers[i].addr;
    }
    x->held -= count * l->parts;
    x->reserved -= count * l->parts;
}

static uint32_t reserve_udp(struct ab_udp_tx *t, struct ab_txbuf *out, uint32_t count)
{
    uint32_t taken = 0;
    int buffer;

    for (; taken < count && (buffer = ab_udp_tx_take(t)) >= 0; taken++)
        out[taken] =
            (struct ab_txbuf){.data = ab_udp_tx_data(t, (uint32_t)buffer), .room = t->room, .addr = (uint64_t)buffer};
    return taken;
}

uint32_t ab_io_tx_reserve(struct ab_io *io, struct ab_txbuf *out, uint32_t count)
{
    if (ab_likely(io->kind == AB_IO_XSK))
        return ab_likely(!io->xsk.longs) ? reserve_xsk(&io->xsk, out, count) : reserve_long(&io->xsk, out, count);
    return io->kind == AB_IO_UDP ? reserve_udp(&io->udp.tx, out, count) : 0;
}

void ab_io_tx_cancel(struct ab_io *io, const struct ab_txbuf *buffers, uint32_t count)
{
    if (io->kind == AB_IO_XSK && io->xsk.longs) {
        cancel_long(&io->xsk, buffers, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (io->kind == AB_IO_XSK)
            ab_umem_put(&io->xsk.umem, buffers[i].addr);
        else
            ab_udp_tx_put(&io->udp.tx, (uint32_t)buffers[i].addr);
    }
    if (io->kind == AB_IO_XSK) {
        io->xsk.held -= count;
        io->xsk.reserved -= count;
    }
}

void ab_io_tx_send(struct ab_io *io, const struct ab_path *path, const struct ab_txbuf *buffer, uint32_t len,
                   uint8_t ecn)
{
    struct ab_xsk *x = &io->xsk;
    uint32_t headers;

    if (io->kind == AB_IO_UDP) {
        ab_udp_tx_queue(&io->udp.tx, path, (uint32_t)buffer->addr, len, ecn);
        return;
    }
    headers = ab_path_headers(path);
    ab_eth_build(path, buffer->data, len, ecn);
    if (ab_unlikely(x->longs != NULL)) {
        x->held -= x->longs->parts;
        x->reserved -= x->longs->parts;
        (void)ab_xsk_send_long(x, (uint32_t)buffer->addr, buffer->data - headers, headers + len);
        return;
    }
    x->held--;
    x->reserved--;
    (void)ab_xsk_send(x, buffer->addr - headers, headers + len);
}
