/* One AF_XDP socket with its own packet memory: set-up on a socket that somebody with privileges opened, rings, kick.
 *
 *              our side                      kernel
 *   FILL        produce frames to fill  -->  takes one for each frame it receives
 *   RX          consume descriptors     <--  frames received
 *   TX          produce descriptors     -->  frames to send
 *   COMPLETION  consume addresses       <--  frames sent: ours again
 *
 * libxdp's inline ring helpers do the arithmetic and the barriers; set-up is our own, because the socket comes from
 * another process and because each step must be able to say what failed. Order matters to drivers: register memory,
 * size rings, fill FILL, (the supervisor has attached the program), then bind, then probe TX.
 *
 * Counters that make up frame conservation: `posted - received` frames lie with the kernel for receiving,
 * `submitted - completed` for sending, the rest is free or held by the worker. */
#ifndef AB_XSK_H
#define AB_XSK_H

#include <linux/if_xdp.h>
#include <xdp/xsk.h>

#include "base.h"
#include "umem.h"

/* Known since Linux 6.6; Debian 12 builds against the headers of 6.1. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif

enum ab_xsk_want {
    AB_XSK_AUTO = 0,      /* zero-copy, else copy */
    AB_XSK_ZERO_COPY = 1, /* zero-copy or fail */
    AB_XSK_COPY = 2,      /* copy, do not try zero-copy */
};

/* ab_xsk_config: what the supervisor decided; see config/afterburner.toml for the meaning of each. */
struct ab_xsk_config {
    uint32_t ifindex;
    uint32_t queue;
    uint32_t frames;     /* frames of the packet memory, a power of two */
    uint32_t frame_size; /* bytes */
    uint32_t ring;       /* entries of each ring, a power of two */
    enum ab_huge_policy huge;
    enum ab_xsk_want want;
    bool generic;         /* the XDP program runs in generic mode (for the mode shown, nothing else) */
    bool multi_buffer;    /* ask for frames that span several descriptors (MTU above a frame) */
    bool busy_poll;       /* SO_PREFER_BUSY_POLL: the worker drives the driver's poll itself */
    uint32_t busy_usecs;  /* SO_BUSY_POLL */
    uint32_t busy_budget; /* SO_BUSY_POLL_BUDGET */
};

#define AB_XSK_JUMBO_BYTES 10240 /* longest frame put together from several descriptors: MTU 9000 and its headers */
#define AB_XSK_JUMBO_SLOTS 16    /* such frames in one burst */
#define AB_XSK_PARTS 5           /* frames of packet memory that it takes at most: of 2 KiB */
#define AB_XSK_LONG_SLOTS 72     /* such frames being written for sending: a batch, and some for other sources' */
#define AB_XSK_LONG_STRIDE (AB_XSK_JUMBO_BYTES + AB_CACHELINE) /* or all of them want the same places of the cache */

/* ab_xsk_long: frames to be sent that may be longer than a frame of packet memory, only with multi-buffer. They are
 * written in one piece into a slot here, and cut into the frames that are held for it when they are sent. */
struct ab_xsk_long {
    uint8_t *area;                   /* AB_XSK_LONG_SLOTS slots of AB_XSK_JUMBO_BYTES, on cache lines */
    uint8_t *goes_on;                /* for each frame that the kernel has: the next one is of the same packet */
    uint32_t parts;                  /* frames that are held for a slot in use */
    uint32_t free_count;             /* entries of `free` in use */
    uint8_t free[AB_XSK_LONG_SLOTS]; /* stack of slots that nobody holds */
    uint64_t frames[AB_XSK_LONG_SLOTS][AB_XSK_PARTS];
    void *memory; /* in it: `area` */
};

_Static_assert(AB_XSK_PARTS * 2048 >= AB_XSK_JUMBO_BYTES, "the smallest frames");

struct ab_xsk {
    struct xsk_ring_cons rx;
    struct xsk_ring_prod fill;
    struct xsk_ring_prod tx;
    struct xsk_ring_cons comp;
    struct ab_umem umem;
    struct ab_stats_queue *stats; /* in the statistics segment; this worker is its only writer */
    uint64_t posted;              /* frames put into FILL */
    uint64_t received;            /* descriptors taken from RX */
    uint64_t submitted;           /* descriptors put into TX */
    uint64_t completed;           /* addresses taken from COMPLETION */
    uint32_t rx_target;           /* frames that should lie with the kernel for receiving; the rest is for sending */
    uint32_t held;                /* frames handed to the worker and not yet released */
    uint32_t reserved;            /* of those, frames that are being filled for sending */
    bool busy_poll;
    int fd;
    enum ab_queue_mode mode;
    uint8_t *jumbo;            /* AB_XSK_JUMBO_SLOTS scratch buffers, only with multi-buffer */
    struct ab_xsk_long *longs; /* NULL without multi-buffer: what is sent is written to the frame it leaves from */
    struct {
        void *addr;
        size_t bytes;
    } maps[4]; /* rings: fill, completion, rx, tx */
    struct ab_xsk_config config;
};

/* ab_xsk_open sets up and binds `fd`, which it owns from then on (also when it fails). `stats` is reset in its gauges
 * and continued in its counters. */
int ab_xsk_open(struct ab_xsk *x, int fd, const struct ab_xsk_config *config, struct ab_stats_queue *stats,
                struct ab_error *err);
void ab_xsk_close(struct ab_xsk *x);

/* ab_xsk_short: so many frames are missing with the kernel that FILL is topped up: 64, or an eighth where there are
 * few. One by one, each would take FILL's cache lines from the core that fills frames (some 50 ns a frame of the sender
 * on veth).
 */
static inline bool ab_xsk_short(const struct ab_xsk *x)
{
    return x->posted - x->received + AB_MIN(64u, AB_MAX(x->rx_target / 8, 1u)) <= x->rx_target;
}

/* ab_xsk_refill posts free frames until `rx_target` lie with the kernel, where it is short of them. */
void ab_xsk_refill(struct ab_xsk *x);

/* ab_xsk_reap takes completions back; cheap when there are none. */
void ab_xsk_reap(struct ab_xsk *x);

/* ab_xsk_kick makes the kernel send what was submitted, and receive where busy polling is on: the one system call of
 * the loop. Call after each burst; does nothing when nothing is pending. */
void ab_xsk_kick(struct ab_xsk *x);

/* ab_xsk_balance compares the frame counts and writes gauges: every turn that moved packets, cheap. */
void ab_xsk_balance(struct ab_xsk *x);

/* ab_xsk_levels writes ring levels: touches cache lines of the kernel's side, so only now and then. */
void ab_xsk_levels(struct ab_xsk *x);

/* ab_xsk_frame: a free frame for sending, or false when all are in flight. */
static inline bool ab_xsk_frame(struct ab_xsk *x, uint64_t *addr)
{
    if (ab_unlikely(x->umem.free_count == 0))
        ab_xsk_reap(x);
    return ab_umem_get(&x->umem, addr);
}

/* ab_xsk_send submits `len` bytes at `addr` (a frame of ours) to the TX ring; false, and the frame free again, when the
 * ring is full. Nothing leaves before ab_xsk_kick. */
static inline bool ab_xsk_send(struct ab_xsk *x, uint64_t addr, uint32_t len)
{
    uint32_t index;

    if (ab_unlikely(!xsk_ring_prod__reserve(&x->tx, 1, &index))) {
        ab_xsk_kick(x);
        ab_xsk_reap(x);
        if (!xsk_ring_prod__reserve(&x->tx, 1, &index)) {
            AB_STAT_ADD(&x->stats->tx_dropped, 1);
            ab_umem_put(&x->umem, addr);
            return false;
        }
    }
    *xsk_ring_prod__tx_desc(&x->tx, index) = (struct xdp_desc){.addr = addr, .len = len};
    xsk_ring_prod__submit(&x->tx, 1);
    x->submitted++;
    AB_STAT_ADD(&x->stats->tx_packets, 1);
    AB_STAT_ADD(&x->stats->tx_bytes, len);
    return true;
}

/* ab_xsk_send_long submits the `len` bytes at `data`, of the slot `slot` of `longs`, in as many frames as it takes;
 * slot and frames are given back, those that leave by their completion. False, and nothing leaves, when the ring is
 * full. */
bool ab_xsk_send_long(struct ab_xsk *x, uint32_t slot, const uint8_t *data, uint32_t len);

/* ab_xsk_scratch: memory beside the frames, for what is longer than one of them. */
static inline uint64_t ab_xsk_scratch(const struct ab_xsk *x)
{
    return x->longs ? (uint64_t)AB_XSK_JUMBO_SLOTS * AB_XSK_JUMBO_BYTES +
                          (AB_XSK_LONG_SLOTS + 1) * (uint64_t)AB_XSK_LONG_STRIDE
                    : 0;
}

static inline uint8_t *ab_xsk_data(const struct ab_xsk *x, uint64_t addr)
{
    return x->umem.area + addr;
}

#endif
