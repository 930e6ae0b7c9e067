#include "io.h"

#include <string.h>

#define SENT UINT64_MAX /* ab_dgram.addr of a frame that is no longer the worker's */

/* The XDP program may have put its clock in front of the frame. Nothing is written back: a frame whose program does not
 * stamp has had none since the memory was made, because changing that setting makes the memory anew; of one
 * that was captured before and now holds a packet of QUIC, nobody asks when it came. (Wiping the magic
 * cost a cache line taken back from the core that filled the frame, for each packet.) */
static inline uint64_t take_stamp(const struct ab_xsk *x, uint64_t addr)
{
    const struct ab_xdp_meta *meta;

    if (addr - ab_umem_base(&x->umem, addr) < sizeof(*meta))
        return 0;
    meta = (const struct ab_xdp_meta *)(x->umem.area + addr - sizeof(*meta));
    return meta->magic == AB_STAMP_MAGIC ? meta->ktime_ns : 0;
}

static void drop(struct ab_io *io, int reason)
{
    AB_STAT_ADD(&io->drops[reason - 1], 1);
}

static uint8_t *scratch(const struct ab_io *io)
{
    return io->xsk.jumbo + (size_t)io->jumbo_slot * AB_XSK_JUMBO_BYTES;
}

/* One part of a frame that spans several descriptors: copied together, because what reads datagrams reads them in one
 * piece. True when `d` is complete and stands in a scratch buffer. */
static bool gather(struct ab_io *io, const struct xdp_desc *desc, struct ab_dgram *d)
{
    struct ab_xsk *x = &io->xsk;

    if (!io->jumbo_open) {
        io->jumbo_open = true;
        io->jumbo_stamp = take_stamp(x, desc->addr);
        io->jumbo_len = 0;
        io->jumbo_lost = !x->jumbo; /* not asked for, yet the kernel sends it: nothing to put it into */
    }
    io->jumbo_lost |= desc->len > AB_XSK_JUMBO_BYTES - io->jumbo_len;
    if (!io->jumbo_lost) {
        memcpy(scratch(io) + io->jumbo_len, ab_xsk_data(x, desc->addr), desc->len);
        io->jumbo_len += desc->len;
    }
    ab_umem_put(&x->umem, desc->addr);
    io->jumbo_open = desc->options & XDP_PKT_CONTD;
    if (io->jumbo_open)
        return false;
    if (io->jumbo_lost) {
        drop(io, AB_DROP_MULTI_BUFFER);
        return false;
    }
    d->stamp_ns = io->jumbo_stamp;
    d->addr = SENT;
    d->scratch = 1;
    d->frame = scratch(io);
    d->frame_len = io->jumbo_len;
    io->jumbo_slot = (io->jumbo_slot + 1) % AB_XSK_JUMBO_SLOTS;
    return true;
}

static uint32_t rx_xsk(struct ab_io *io, struct ab_dgram *out, uint32_t max)
{
    struct ab_xsk *x = &io->xsk;
    uint32_t index, count, kept = 0, jumbos = 0, parts = 0, taken;
    uint64_t bytes = 0;

    count = xsk_ring_cons__peek(&x->rx, max, &index);
    if (count == 0)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *data = ab_xsk_data(x, xsk_ring_cons__rx_desc(&x->rx, index + i)->addr);

        __builtin_prefetch(data);
        __builtin_prefetch(data - sizeof(struct ab_xdp_meta)); /* a line of its own: frames begin on one */
    }
    for (taken = 0; taken < count; taken++) {
        const struct xdp_desc *desc = xsk_ring_cons__rx_desc(&x->rx, index + taken);
        struct ab_dgram *d = &out[kept];
        int reason;

        if (ab_unlikely(desc->options & XDP_PKT_CONTD || io->jumbo_open)) {
            if (jumbos == AB_XSK_JUMBO_SLOTS && !io->jumbo_open)
                break; /* the scratch buffers of this burst are used up: the rest comes with the next */
            bytes += desc->len;
            parts += !!(desc->options & XDP_PKT_CONTD); /* a frame is counted once, with its last part */
            if (!gather(io, desc, d))
                continue;
            jumbos++;
        } else {
            bytes += desc->len;
            d->stamp_ns = take_stamp(x, desc->addr);
            d->addr = desc->addr;
            d->scratch = 0;
            d->frame = ab_xsk_data(x, desc->addr);
            d->frame_len = desc->len;
        }
        reason = ab_eth_parse(d, d->frame, d->frame_len, io->parse_flags);
        if (ab_unlikely(reason)) {
            drop(io, reason);
            if (!d->scratch)
                ab_umem_put(&x->umem, d->addr);
            continue;
        }
        x->held += !d->scratch;
        kept++;
    }
    xsk_ring_cons__cancel(&x->rx, count - taken);
    xsk_ring_cons__release(&x->rx, taken);
    x->received += taken;
    AB_STAT_ADD(&x->stats->rx_packets, taken - parts);
    AB_STAT_ADD(&x->stats->rx_bytes, bytes);
    AB_STAT_ADD(&x->stats->rx_bursts, 1);
    return kept;
}

static uint32_t rx_udp(struct ab_io *io, struct ab_dgram *out, uint32_t max)
{
    uint32_t cut = 0, kept = ab_udp_rx(&io->udp, out, max, &cut);

    if (ab_unlikely(cut))
        AB_STAT_ADD(&io->drops[AB_DROP_MULTI_BUFFER - 1], cut);
    return kept;
}

uint32_t ab_io_rx(struct ab_io *io, struct ab_dgram *out, uint32_t max)
{
    return ab_likely(io->kind == AB_IO_XSK) ? rx_xsk(io, out, max) : rx_udp(io, out, max);
}

void ab_io_release(struct ab_io *io, struct ab_dgram *d, uint32_t count)
{
    struct ab_xsk *x = &io->xsk;

    if (io->kind != AB_IO_XSK)
        return;
    for (uint32_t i = 0; i < count; i++) {
        if (d[i].addr == SENT)
            continue;
        ab_umem_put(&x->umem, d[i].addr);
        x->held--;
    }
}

void ab_io_reply(struct ab_io *io, struct ab_dgram *d)
{
    struct ab_xsk *x = &io->xsk;
    uint64_t addr = d->addr;

    if (io->kind == AB_IO_UDP) {
        ab_udp_reply(&io->udp, d);
        return;
    }
    if (d->scratch) {
        AB_STAT_ADD(&x->stats->tx_dropped, 1);
        return;
    }
    ab_eth_reverse(d);
    d->addr = SENT;
    x->held--;
    (void)ab_xsk_send(x, addr, d->frame_len);
}

void ab_io_flush(struct ab_io *io, uint32_t moved)
{
    if (io->kind == AB_IO_UDP) {
        ab_udp_flush(&io->udp);
        return;
    }
    if (io->kind != AB_IO_XSK)
        return;
    if (moved || io->xsk.submitted != io->xsk.completed || ab_xsk_short(&io->xsk)) {
        /* The kick first: what was answered leaves before any housekeeping, and in copy mode its completion is there
         * when the kick returns. */
        ab_xsk_kick(&io->xsk);
        ab_xsk_reap(&io->xsk);
        ab_xsk_refill(&io->xsk);
        ab_xsk_balance(&io->xsk);
    } else if (io->xsk.busy_poll || xsk_ring_prod__needs_wakeup(&io->xsk.fill)) {
        ab_xsk_kick(&io->xsk);
    }
}

void ab_io_levels(struct ab_io *io)
{
    if (io->kind == AB_IO_XSK)
        ab_xsk_levels(&io->xsk);
}

int ab_io_fd(const struct ab_io *io)
{
    return io->kind == AB_IO_XSK ? io->xsk.fd : io->kind == AB_IO_UDP ? io->udp.fd : -1;
}

void ab_io_close(struct ab_io *io)
{
    if (io->kind == AB_IO_XSK)
        ab_xsk_close(&io->xsk);
    else if (io->kind == AB_IO_UDP)
        ab_udp_close(&io->udp);
    memset(io, 0, sizeof(*io));
}
