/* The floor: AF_XDP with nothing around it.
 *
 * What the product's receive and transmit path is measured against, so it shares no code with it but libxdp's inline
 * ring helpers: one socket, one packet memory, a program of five instructions that redirects every frame of the queue.
 * No parsing, no statistics, no frame accounting: frames simply go round.
 *
 *   receive half  [0, frames/2)        FILL -> kernel -> RX -> (turned round: TX -> COMPLETION) -> FILL
 *   send half     [frames/2, frames)   written before the loop; TX -> COMPLETION -> TX
 *
 * With `receive` off the whole memory is the send half, nothing is attached, and the device stays usable. */
#ifndef AB_LAB_BARE_H
#define AB_LAB_BARE_H

#include <xdp/xsk.h>

#include "options.h"

struct ab_bare {
    struct xsk_ring_cons rx, comp;
    struct xsk_ring_prod fill, tx;
    uint8_t *area;
    uint64_t area_bytes;
    uint32_t frame_size;
    uint32_t first_send, sends; /* the send half: index of its first frame, how many */
    unsigned ifindex;
    bool huge;      /* the memory lies in 2 MiB pages */
    bool busy_poll; /* a receive call drives the device's poll */
    int fd, link, prog, map;
    struct {
        void *addr;
        size_t bytes;
    } maps[4];
};

/* ab_bare_open binds `o->device`, `o->queue`. On failure nothing is left behind. */
int ab_bare_open(struct ab_bare *b, const struct ab_lab_options *o, bool receive, struct ab_error *err);
void ab_bare_close(struct ab_bare *b);

/* ab_bare_kick makes the kernel send what lies in TX. 0, or -errno when the device is gone. */
int ab_bare_kick(struct ab_bare *b);

/* ab_bare_take: the next received frame, if there is one. It is the caller's until it is given back. */
static inline bool ab_bare_take(struct ab_bare *b, struct xdp_desc *d)
{
    uint32_t at;

    if (!xsk_ring_cons__peek(&b->rx, 1, &at))
        return false;
    *d = *xsk_ring_cons__rx_desc(&b->rx, at);
    xsk_ring_cons__release(&b->rx, 1);
    return true;
}

/* ab_bare_give_back: a received frame, anywhere in it, is the kernel's to receive into again. */
static inline bool ab_bare_give_back(struct ab_bare *b, uint64_t addr)
{
    uint32_t at;

    if (!xsk_ring_prod__reserve(&b->fill, 1, &at))
        return false;
    *xsk_ring_prod__fill_addr(&b->fill, at) = addr & ~(uint64_t)(b->frame_size - 1);
    xsk_ring_prod__submit(&b->fill, 1);
    return true;
}

/* ab_bare_put lays a frame into TX; false: no room. ab_bare_kick sends it. */
static inline bool ab_bare_put(struct ab_bare *b, uint64_t addr, uint32_t len)
{
    uint32_t at;

    if (!xsk_ring_prod__reserve(&b->tx, 1, &at))
        return false;
    *xsk_ring_prod__tx_desc(&b->tx, at) = (struct xdp_desc){.addr = addr, .len = len};
    xsk_ring_prod__submit(&b->tx, 1);
    return true;
}

/* ab_bare_poll drives the device's poll from here (busy polling only). */
void ab_bare_poll(struct ab_bare *b);

#endif
