/* libFuzzer target of the AF_XDP backend (afterburnerd/native/io.h, xsk.h, umem.h) with a kernel made of arrays.
 *
 * The input chooses what happens: frames of one part or many arrive, are read in bursts of any size, are sent back or
 * not, leave, and complete, in any order and until every ring has run dry and full. Two things are watched:
 *
 *   - each frame of the packet memory is in exactly one place, and what lies in a place where nobody may read it is
 *     poisoned for AddressSanitizer: free, in FILL, in COMPLETION
 *   - the datagrams that come out are those of a model that puts frames together in one piece and reads them with
 *     ab_eth_parse (which has a target of its own), with their time stamps, and everything else is counted as dropped
 *
 *                  FILL                          RX
 *   free ---------------------> kernel ---------------------> worker --> free, or TX
 *     ^                                                                      |
 *     '------------------------ COMPLETION <----- kernel <-------------------' */
#include "io.h"

#include <sanitizer/asan_interface.h>

#include "fuzz.h"

enum {
    FRAME = 2048,
    HEADROOM = 256, /* XDP_PACKET_HEADROOM */
    ROOM = FRAME - HEADROOM,
    MOST_FRAMES = 128,
    MOST_PARTS = 12,
    MOST_WAITING = 256,
    HEADERS = 14 + 20 + 8,
};

/* What should come out of a frame that arrived. */
struct arrival {
    uint8_t *bytes; /* in one piece */
    uint32_t len;
    uint32_t parts;
    uint64_t stamp_ns;
};

struct world {
    struct ab_io io;
    struct ab_stats_queue stats;
    uint64_t drops[AB_DROP_END];
    uint64_t want_drops[AB_DROP_END];
    uint64_t want_packets, want_bytes, want_tx, want_tx_dropped;
    uint32_t words[4][3]; /* producer, consumer, flags of FILL, COMPLETION, RX, TX */
    struct arrival waiting[MOST_WAITING];
    uint32_t first, count; /* of `waiting` */
    uint32_t done;         /* parts of the first one that have been read */
    uint32_t serial;
    bool jumbo_wanted;
};

static void ring_init(struct world *w, uint32_t which, void *ring, uint32_t size, size_t entry)
{
    struct xsk_ring_prod *r = ring; /* the two kinds of ring have equal members */

    r->producer = &w->words[which][0];
    r->consumer = &w->words[which][1];
    r->flags = &w->words[which][2];
    r->ring = malloc(size * entry);
    r->size = size;
    r->mask = size - 1;
    MUST(r->ring);
}

static void init(struct world *w, struct choices *c)
{
    uint32_t ring = 1u << (1 + choose(c) % 6), frames = 1 + choose(c) % MOST_FRAMES, flags = choose(c);
    struct ab_xsk *x = &w->io.xsk;

    w->io.kind = AB_IO_XSK;
    w->io.drops = w->drops;
    w->io.parse_flags = flags & 1 ? AB_ETH_VERIFY_UDP : 0;
    w->jumbo_wanted = flags & 2;
    ring_init(w, 0, &x->fill, ring, sizeof(uint64_t));
    ring_init(w, 1, &x->comp, ring, sizeof(uint64_t));
    ring_init(w, 2, &x->rx, ring, sizeof(struct xdp_desc));
    ring_init(w, 3, &x->tx, ring, sizeof(struct xdp_desc));
    x->fill.cached_cons = x->tx.cached_cons = ring;
    x->umem = (struct ab_umem){.area = malloc(frames * FRAME),
                               .bytes = frames * FRAME,
                               .frame_size = FRAME,
                               .frames = frames,
                               .free_count = frames,
                               .free = malloc(frames * sizeof(uint64_t))};
    MUST(x->umem.area && x->umem.free);
    memset(x->umem.area, 0, frames * FRAME);
    for (uint32_t i = 0; i < frames; i++)
        x->umem.free[i] = (uint64_t)i * FRAME;
    if (w->jumbo_wanted)
        MUST(x->jumbo = malloc((size_t)AB_XSK_JUMBO_BYTES * AB_XSK_JUMBO_SLOTS));
    x->stats = &w->stats;
    x->config.ring = ring;
    x->fd = -1;
    x->rx_target = AB_MIN(frames / 2, ring);
    ab_xsk_refill(x);
}

static void fini(struct world *w)
{
    struct ab_xsk *x = &w->io.xsk;

    ASAN_UNPOISON_MEMORY_REGION(x->umem.area, x->umem.bytes);
    while (w->count--)
        free(w->waiting[w->first++ % MOST_WAITING].bytes);
    free(x->fill.ring);
    free(x->comp.ring);
    free(x->rx.ring);
    free(x->tx.ring);
    free(x->umem.area);
    free(x->umem.free);
    free(x->jumbo);
}

enum { POISONED = -1 }; /* a place where nobody may look into the frame */

/* see: a frame in one more place, of which `len` bytes may be read there. */
static void see(struct world *w, bool *seen, uint64_t addr, int64_t len)
{
    struct ab_xsk *x = &w->io.xsk;
    const uint64_t frame = addr / FRAME;

    MUST(frame < x->umem.frames && !seen[frame]);
    seen[frame] = true;
    ASAN_POISON_MEMORY_REGION(x->umem.area + frame * FRAME, FRAME);
    if (len != POISONED)
        ASAN_UNPOISON_MEMORY_REGION(x->umem.area + addr - sizeof(struct ab_xdp_meta),
                                    (size_t)len + sizeof(struct ab_xdp_meta));
}

/* conserve: every frame in exactly one place. */
static void conserve(struct world *w)
{
    struct ab_xsk *x = &w->io.xsk;
    bool seen[MOST_FRAMES] = {false};
    uint32_t total = 0;

    for (uint32_t i = 0; i < x->umem.free_count; i++, total++) {
        MUST(x->umem.free[i] % FRAME == 0);
        see(w, seen, x->umem.free[i], POISONED);
    }
    for (uint32_t i = *x->fill.consumer; i != *x->fill.producer; i++, total++)
        see(w, seen, *xsk_ring_prod__fill_addr(&x->fill, i), POISONED);
    for (uint32_t i = *x->comp.consumer; i != *x->comp.producer; i++, total++)
        see(w, seen, *xsk_ring_cons__comp_addr(&x->comp, i), POISONED);
    for (uint32_t i = *x->rx.consumer; i != *x->rx.producer; i++, total++)
        see(w, seen, xsk_ring_cons__rx_desc(&x->rx, i)->addr, xsk_ring_cons__rx_desc(&x->rx, i)->len);
    for (uint32_t i = *x->tx.consumer; i != *x->tx.producer; i++, total++)
        see(w, seen, xsk_ring_prod__tx_desc(&x->tx, i)->addr, xsk_ring_prod__tx_desc(&x->tx, i)->len);
    MUST(total == x->umem.frames && x->held == 0);
    MUST(*x->fill.producer - *x->fill.consumer <= x->fill.size && *x->tx.producer - *x->tx.consumer <= x->tx.size);
    MUST(w->stats.frame_errors == 0 && w->stats.kick_errors == 0);
    MUST(memcmp(w->drops, w->want_drops, sizeof(w->drops)) == 0);
    MUST(w->stats.rx_packets == w->want_packets && w->stats.rx_bytes == w->want_bytes);
    MUST(w->stats.tx_packets == w->want_tx && w->stats.tx_dropped == w->want_tx_dropped);
}

/* datagram: `len` bytes that are a UDP datagram where there is room for one, and serial bytes behind it. */
static void datagram(uint8_t *p, uint32_t len, uint32_t serial)
{
    static const uint8_t start[HEADERS] = {2, 0,         0,  0,         0, 1, 2, 0,  0, 0, 0, 2,    8,    0,    0x45,
                                           0, [22] = 64, 17, [26] = 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0x1f, 0x41};
    uint64_t sum;

    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)(serial + i * 7);
    if (len < HEADERS)
        return;
    memcpy(p, start, HEADERS);
    ab_store16(p + 16, (uint16_t)(len - 14));
    ab_store16(p + 38, (uint16_t)(len - 34));
    sum = ab_eth_sum(p + 14, 20, 0);
    ab_store16(p + 24, (uint16_t)~__builtin_bswap16(ab_eth_fold(sum)));
    /* No UDP checksum, which IPv4 allows: verified or not, it is a datagram. */
}

/* receive: the kernel takes a frame off the wire, if FILL and RX have room for all of it. */
static void receive(struct world *w, struct choices *c)
{
    struct ab_xsk *x = &w->io.xsk;
    uint32_t parts = choose(c), len = 0, at = 0, lens[MOST_PARTS];
    uint32_t fault = choose(c);
    struct arrival *a = &w->waiting[(w->first + w->count) % MOST_WAITING];

    parts = parts < 128 ? 1 : 2 + parts % (MOST_PARTS - 1);
    for (uint32_t i = 0; i < parts; i++)
        len += lens[i] = choose16(c) % (ROOM + 1);
    if (*x->fill.producer - *x->fill.consumer < parts || x->rx.size - (*x->rx.producer - *x->rx.consumer) < parts ||
        w->count == MOST_WAITING)
        return;
    *a = (struct arrival){.bytes = malloc(len), .len = len, .parts = parts};
    MUST(a->bytes || !len);
    datagram(a->bytes, len, w->serial++);
    if (fault & 1 && len)
        a->bytes[choose(c) % AB_MIN(len, 64u)] ^= (uint8_t)fault;
    if (fault & 2)
        a->stamp_ns = w->serial + ((uint64_t)fault << 32);
    w->count++;
    for (uint32_t i = 0; i < parts; i++) {
        uint64_t addr = *xsk_ring_prod__fill_addr(&x->fill, *x->fill.consumer) + HEADROOM;
        struct ab_xdp_meta meta = {0};

        if (i == 0 && a->stamp_ns)
            meta = (struct ab_xdp_meta){.ktime_ns = a->stamp_ns, .magic = AB_STAMP_MAGIC};
        ++*x->fill.consumer;
        ASAN_UNPOISON_MEMORY_REGION(x->umem.area + addr - HEADROOM, FRAME);
        memcpy(x->umem.area + addr - sizeof(meta), &meta, sizeof(meta));
        if (lens[i])
            memcpy(x->umem.area + addr, a->bytes + at, lens[i]);
        at += lens[i];
        *(struct xdp_desc *)xsk_ring_cons__rx_desc(&x->rx, *x->rx.producer) =
            (struct xdp_desc){.addr = addr, .len = lens[i], .options = i + 1 < parts ? XDP_PKT_CONTD : 0};
        ++*x->rx.producer;
    }
}

/* expect: what the model makes of the next frame: 0 and the datagram, or why it is dropped. */
static int expect(struct world *w, struct arrival *a, struct ab_dgram *d)
{
    bool scattered = a->parts > 1;

    if (scattered && (!w->jumbo_wanted || a->len > AB_XSK_JUMBO_BYTES))
        return AB_DROP_MULTI_BUFFER;
    return ab_eth_parse(d, a->bytes, a->len, w->io.parse_flags);
}

static void check_reply(struct world *w, const struct arrival *a, const struct ab_dgram *want, uint32_t at)
{
    const struct xdp_desc *desc = xsk_ring_prod__tx_desc(&w->io.xsk.tx, at);
    struct ab_dgram d;

    MUST(desc->len == a->len);
    MUST(ab_eth_parse(&d, w->io.xsk.umem.area + desc->addr, desc->len, w->io.parse_flags) == 0);
    MUST(d.sport == want->dport && d.dport == want->sport && memcmp(d.src, want->dst, 16) == 0);
}

/* turn: what the worker does: receive a burst, look, answer some, give the rest back, flush. */
static void turn(struct world *w, struct choices *c)
{
    struct ab_xsk *x = &w->io.xsk;
    uint32_t max = 1 + choose(c) % 64, kept, seen = 0, before = *x->rx.consumer, there = *x->rx.producer - before;
    uint64_t answers = choose16(c) * 0x0001000100010001ull;
    struct ab_dgram burst[64], want;

    memset(burst, 0xa5, sizeof(burst)); /* what an earlier burst left there must not matter */
    kept = ab_io_rx(&w->io, burst, max);
    MUST(kept <= max && *x->rx.consumer - before <= AB_MIN(max, there) && (!there || *x->rx.consumer != before));
    for (uint32_t taken = before; taken != *x->rx.consumer; taken++) {
        struct arrival *a = &w->waiting[w->first % MOST_WAITING];
        int reason;

        w->want_bytes += xsk_ring_cons__rx_desc(&x->rx, taken)->len;
        if (++w->done < a->parts)
            continue;
        w->done = 0;
        w->want_packets++;
        reason = expect(w, a, &want);
        if (reason) {
            w->want_drops[reason - 1]++;
        } else {
            const struct ab_dgram *d = &burst[seen];
            uint32_t from = *x->tx.producer, dropped = (uint32_t)w->stats.tx_dropped;

            MUST(seen < kept);
            MUST(d->len == want.len && d->frame_len == a->len && d->stamp_ns == a->stamp_ns);
            MUST(memcmp(d->frame, a->bytes, a->len) == 0 && d->data - d->frame == want.data - want.frame);
            MUST(d->sport == want.sport && d->dport == want.dport && !d->scratch == (a->parts == 1));
            if (answers >> seen % 64 & 1) {
                ab_io_reply(&w->io, &burst[seen]);
                /* Sent, or said not to be: one that is put together cannot be, nor one that finds TX full. */
                MUST(*x->tx.producer - from + (uint32_t)w->stats.tx_dropped - dropped == 1);
                MUST(*x->tx.producer == from || a->parts == 1);
                if (*x->tx.producer != from)
                    check_reply(w, a, &want, from);
                w->want_tx += *x->tx.producer - from;
                w->want_tx_dropped += w->stats.tx_dropped - dropped;
            }
            seen++;
        }
        free(a->bytes);
        w->first++;
        w->count--;
    }
    MUST(seen == kept);
    ab_io_release(&w->io, burst, kept);
    ab_io_flush(&w->io, kept);
    /* Less than a batch is held back of what can lie with the kernel for receiving. */
    MUST(x->rx_target - (x->posted - x->received) < AB_MIN(64u, AB_MAX(x->rx_target / 8, 1u)) ||
         x->umem.free_count == 0 || *x->fill.producer - *x->fill.consumer == x->fill.size);
    MUST(*x->comp.producer == *x->comp.consumer);
}

/* transmit: the kernel sends up to `most` frames and reports them, as far as COMPLETION has room. */
static void transmit(struct world *w, uint32_t most)
{
    struct ab_xsk *x = &w->io.xsk;

    for (; most && *x->tx.producer != *x->tx.consumer; most--) {
        if (*x->comp.producer - *x->comp.consumer == x->comp.size)
            return;
        *(uint64_t *)xsk_ring_cons__comp_addr(&x->comp, *x->comp.producer) =
            xsk_ring_prod__tx_desc(&x->tx, *x->tx.consumer)->addr;
        ++*x->tx.consumer;
        ++*x->comp.producer;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = {data, size};
    static struct world w;

    memset(&w, 0, sizeof(w));
    init(&w, &c);
    conserve(&w);
    while (c.left) {
        uint32_t what = choose(&c);

        for (uint32_t times = 1 + (what >> 4); times; times--) {
            if ((what & 3) == 0)
                turn(&w, &c);
            else if ((what & 3) == 1)
                transmit(&w, 1 + (what >> 2 & 3) * 20);
            else
                receive(&w, &c);
        }
        conserve(&w);
    }
    fini(&w);
    return 0;
}
