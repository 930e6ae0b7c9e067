#include "xsk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#endif
#ifndef SO_BUSY_POLL_BUDGET
#define SO_BUSY_POLL_BUDGET 70
#endif

/* A queue whose former socket was closed a moment ago answers EBUSY, and its packet memory counts against the limit on
 * locked memory (ENOBUFS), until the kernel's deferred work has run. */
#define TRIES 200
#define PAUSE_NS 5000000

static void pause_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

static int option(struct ab_xsk *x, int name, const char *label, const void *value, socklen_t bytes,
                  struct ab_error *err)
{
    for (int try = 0; setsockopt(x->fd, SOL_XDP, name, value, bytes) != 0; try++) {
        if (name != XDP_UMEM_REG || errno != ENOBUFS || try == TRIES)
            goto failed;
        pause_a_moment();
    }
    return 0;
failed:
    if (name == XDP_UMEM_REG && (errno == ENOBUFS || errno == EPERM || errno == ENOMEM))
        return ab_fail(err, -errno,
                       "AF_XDP queue %u: setsockopt(%s) of %llu bytes failed: %s; the limit on locked memory is too "
                       "small: set LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`",
                       x->config.queue, label, (unsigned long long)x->umem.bytes, strerror(errno));
    return ab_fail(err, -errno, "AF_XDP queue %u: setsockopt(%s) failed: %s", x->config.queue, label, strerror(errno));
}

static int map_ring(struct ab_xsk *x, unsigned slot, off_t pgoff, uint64_t desc_offset, size_t entry,
                    struct ab_error *err)
{
    size_t bytes = desc_offset + (size_t)x->config.ring * entry;
    void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, x->fd, pgoff);

    if (addr == MAP_FAILED)
        return ab_fail(err, -errno, "AF_XDP queue %u: mmap of ring %u failed: %s", x->config.queue, slot,
                       strerror(errno));
    x->maps[slot].addr = addr;
    x->maps[slot].bytes = bytes;
    return 0;
}

#define RING_INIT(r, x, slot, off)                                                                                     \
    do {                                                                                                               \
        uint8_t *base_ = (x)->maps[slot].addr;                                                                         \
        (r)->producer = (uint32_t *)(base_ + (off).producer);                                                          \
        (r)->consumer = (uint32_t *)(base_ + (off).consumer);                                                          \
        (r)->flags = (uint32_t *)(base_ + (off).flags);                                                                \
        (r)->ring = base_ + (off).desc;                                                                                \
        (r)->size = (x)->config.ring;                                                                                  \
        (r)->mask = (x)->config.ring - 1;                                                                              \
        (r)->cached_prod = *(r)->producer;                                                                             \
        (r)->cached_cons = *(r)->consumer;                                                                             \
    } while (0)

static int map_rings(struct ab_xsk *x, struct ab_error *err)
{
    struct xdp_mmap_offsets off;
    socklen_t bytes = sizeof(off);
    int rc;

    if (getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &off, &bytes) != 0)
        return ab_fail(err, -errno, "AF_XDP queue %u: getsockopt(XDP_MMAP_OFFSETS) failed: %s", x->config.queue,
                       strerror(errno));
    if (bytes != sizeof(off))
        return ab_fail(err, AB_EINVAL, "AF_XDP needs Linux 5.4 or later: this kernel's ring layout has no flags");
    if ((rc = map_ring(x, 0, XDP_UMEM_PGOFF_FILL_RING, off.fr.desc, sizeof(uint64_t), err)) ||
        (rc = map_ring(x, 1, XDP_UMEM_PGOFF_COMPLETION_RING, off.cr.desc, sizeof(uint64_t), err)) ||
        (rc = map_ring(x, 2, XDP_PGOFF_RX_RING, off.rx.desc, sizeof(struct xdp_desc), err)) ||
        (rc = map_ring(x, 3, XDP_PGOFF_TX_RING, off.tx.desc, sizeof(struct xdp_desc), err)))
        return rc;
    RING_INIT(&x->fill, x, 0, off.fr);
    RING_INIT(&x->comp, x, 1, off.cr);
    RING_INIT(&x->rx, x, 2, off.rx);
    RING_INIT(&x->tx, x, 3, off.tx);
    /* The producer's view of free entries: see xsk_prod_nb_free() in xdp/xsk.h. */
    x->fill.cached_cons += x->config.ring;
    x->tx.cached_cons += x->config.ring;
    return 0;
}

static int bind_as(struct ab_xsk *x, uint16_t flags)
{
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = flags,
        .sxdp_ifindex = x->config.ifindex,
        .sxdp_queue_id = x->config.queue,
    };

    for (int try = 0; bind(x->fd, (struct sockaddr *)&address, sizeof(address)) != 0; try++) {
        if (errno != EBUSY || try == TRIES)
            return -errno;
        pause_a_moment();
    }
    return 0;
}

/* Zero-copy first, then one copy: the ladder's two rungs that a socket can try by itself. */
static int bind_ladder(struct ab_xsk *x, struct ab_error *err)
{
    uint16_t common = XDP_USE_NEED_WAKEUP | (x->config.multi_buffer ? XDP_USE_SG : 0);
    const char *tried = "copy mode";
    int rc = -EOPNOTSUPP;

    if (x->config.want != AB_XSK_COPY) {
        tried = "zero-copy mode";
        rc = bind_as(x, common | XDP_ZEROCOPY);
        x->mode = AB_QUEUE_MODE_ZERO_COPY;
    }
    if (x->config.want != AB_XSK_ZERO_COPY && rc != 0 && rc != -EBUSY && rc != -ENODEV) {
        tried = "copy mode";
        rc = bind_as(x, common | XDP_COPY);
        x->mode = x->config.generic ? AB_QUEUE_MODE_GENERIC : AB_QUEUE_MODE_COPY;
    }
    if (rc == 0)
        return 0;
    x->mode = AB_QUEUE_MODE_CLOSED;
    if (rc == -EBUSY)
        return ab_fail(err, rc,
                       "AF_XDP queue %u: bind in %s failed: another AF_XDP socket holds this queue; `ss -f xdp -p` or "
                       "`lsof` shows whose",
                       x->config.queue, tried);
    if (x->config.want == AB_XSK_ZERO_COPY)
        return ab_fail(err, rc,
                       "AF_XDP queue %u: bind in zero-copy mode failed: %s; the driver cannot do it (or not with this "
                       "MTU): set interface.mode = \"auto\" or \"copy\"",
                       x->config.queue, strerror(-rc));
    return ab_fail(err, rc, "AF_XDP queue %u: bind in %s failed: %s", x->config.queue, tried, strerror(-rc));
}

static void busy_poll_on(struct ab_xsk *x)
{
    int on = 1, usecs = (int)x->config.busy_usecs, budget = (int)x->config.busy_budget;

    /* SO_PREFER_BUSY_POLL is Linux 5.11; raising the budget above the default needs CAP_NET_ADMIN, and the supervisor
     * has set it on the socket already where it may. */
    x->busy_poll = setsockopt(x->fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof(on)) == 0 &&
                   setsockopt(x->fd, SOL_SOCKET, SO_BUSY_POLL, &usecs, sizeof(usecs)) == 0;
    if (x->busy_poll)
        (void)setsockopt(x->fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof(budget));
}

static int open_longs(struct ab_xsk *x, struct ab_error *err)
{
    struct ab_xsk_long *l = x->longs = calloc(1, sizeof(*l));

    if (!l || !(l->memory = calloc(AB_XSK_LONG_SLOTS + 1, AB_XSK_LONG_STRIDE)) ||
        !(l->goes_on = calloc(x->umem.frames, 1)))
        return ab_fail(err, AB_ENOMEM, "AF_XDP queue %u: no memory for long frames to be sent", x->config.queue);
    l->area = (uint8_t *)(((uintptr_t)l->memory + AB_CACHELINE - 1) & ~(uintptr_t)(AB_CACHELINE - 1));
    l->parts = (AB_XSK_JUMBO_BYTES + x->umem.frame_size - 1) / x->umem.frame_size;
    for (uint32_t i = 0; i < AB_XSK_LONG_SLOTS; i++)
        l->free[i] = (uint8_t)(AB_XSK_LONG_SLOTS - 1 - i);
    l->free_count = AB_XSK_LONG_SLOTS;
    return 0;
}

static void close_longs(struct ab_xsk *x)
{
    if (!x->longs)
        return;
    free(x->longs->memory);
    free(x->longs->goes_on);
    free(x->longs);
}

int ab_xsk_open(struct ab_xsk *x, int fd, const struct ab_xsk_config *config, struct ab_stats_queue *stats,
                struct ab_error *err)
{
    struct xdp_umem_reg reg;
    struct xdp_options options = {0};
    socklen_t bytes = sizeof(options);
    int rc;

    memset(x, 0, sizeof(*x));
    x->fd = fd;
    x->config = *config;
    x->stats = stats;
    rc = ab_umem_init(&x->umem, config->frames, config->frame_size, config->huge, err);
    if (rc)
        goto fail;
    reg = (struct xdp_umem_reg){
        .addr = (uintptr_t)x->umem.area,
        .len = (uint64_t)config->frames * config->frame_size,
        .chunk_size = config->frame_size,
    };
    if ((rc = option(x, XDP_UMEM_REG, "XDP_UMEM_REG", &reg, sizeof(reg), err)) ||
        (rc = option(x, XDP_UMEM_FILL_RING, "XDP_UMEM_FILL_RING", &config->ring, sizeof(config->ring), err)) ||
        (rc = option(x, XDP_UMEM_COMPLETION_RING, "XDP_UMEM_COMPLETION_RING", &config->ring, sizeof(config->ring),
                     err)) ||
        (rc = option(x, XDP_RX_RING, "XDP_RX_RING", &config->ring, sizeof(config->ring), err)) ||
        (rc = option(x, XDP_TX_RING, "XDP_TX_RING", &config->ring, sizeof(config->ring), err)) ||
        (rc = map_rings(x, err)))
        goto fail;
    if (config->multi_buffer) {
        x->jumbo = malloc((size_t)AB_XSK_JUMBO_BYTES * AB_XSK_JUMBO_SLOTS);
        if (!x->jumbo) {
            rc = ab_fail(err, AB_ENOMEM, "AF_XDP queue %u: no memory for long frames", config->queue);
            goto fail;
        }
        if ((rc = open_longs(x, err)))
            goto fail;
    }
    /* Half for receiving, half for sending; never more than FILL can hold. */
    x->rx_target = AB_MIN(config->frames / 2, config->ring);
    ab_xsk_refill(x);
    if ((rc = bind_ladder(x, err)))
        goto fail;
    if (config->busy_poll)
        busy_poll_on(x);
    /* What is in force is what the kernel says, not what was asked for. */
    if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &bytes) == 0 && x->mode == AB_QUEUE_MODE_ZERO_COPY &&
        !(options.flags & XDP_OPTIONS_ZEROCOPY))
        x->mode = AB_QUEUE_MODE_COPY;
    /* Probe TX: an empty kick on a queue that cannot send says so here (old ice: ENXIO), not under load. */
    if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) != 0 && errno != EAGAIN && errno != EBUSY && errno != ENOBUFS &&
        errno != ENETDOWN) {
        rc = ab_fail(err, -errno, "AF_XDP queue %u: a probing sendto() failed: %s; this queue cannot send",
                     config->queue, strerror(errno));
        goto fail;
    }
    AB_STAT_SET(&stats->mode, x->mode);
    AB_STAT_SET(&stats->queue, config->queue);
    AB_STAT_SET(&stats->frames, config->frames);
    AB_STAT_SET(&stats->ring_size, config->ring);
    ab_xsk_balance(x);
    ab_xsk_levels(x);
    return 0;

fail:
    ab_xsk_close(x);
    return rc;
}

void ab_xsk_close(struct ab_xsk *x)
{
    /* The socket first: while it lives the kernel may write into the frames. */
    if (x->fd >= 0)
        close(x->fd);
    for (unsigned i = 0; i < AB_ARRAY_LEN(x->maps); i++)
        if (x->maps[i].addr)
            munmap(x->maps[i].addr, x->maps[i].bytes);
    ab_umem_fini(&x->umem);
    free(x->jumbo);
    close_longs(x);
    if (x->stats) {
        AB_STAT_SET(&x->stats->mode, AB_QUEUE_MODE_CLOSED);
        AB_STAT_SET(&x->stats->frames, 0);
        AB_STAT_SET(&x->stats->frames_rx, 0);
        AB_STAT_SET(&x->stats->frames_worker, 0);
        AB_STAT_SET(&x->stats->frames_tx, 0);
    }
    memset(x, 0, sizeof(*x));
    x->fd = -1;
}

void ab_xsk_refill(struct ab_xsk *x)
{
    uint64_t with_kernel = x->posted - x->received;
    uint32_t want, index;

    if (!ab_xsk_short(x))
        return;
    want = AB_MIN(x->rx_target - (uint32_t)with_kernel, x->umem.free_count);
    want = AB_MIN(want, xsk_prod_nb_free(&x->fill, want));
    if (want == 0 || !xsk_ring_prod__reserve(&x->fill, want, &index))
        return;
    for (uint32_t i = 0; i < want; i++) {
        uint64_t addr = 0;

        ab_umem_get(&x->umem, &addr);
        *xsk_ring_prod__fill_addr(&x->fill, index + i) = addr;
    }
    xsk_ring_prod__submit(&x->fill, want);
    x->posted += want;
}

bool ab_xsk_send_long(struct ab_xsk *x, uint32_t slot, const uint8_t *data, uint32_t len)
{
    struct ab_xsk_long *l = x->longs;
    const uint64_t *frames = l->frames[slot];
    uint32_t size = x->umem.frame_size, parts = (len + size - 1) / size, index;
    bool sent = xsk_ring_prod__reserve(&x->tx, parts, &index) == parts;

    if (ab_unlikely(!sent)) {
        ab_xsk_kick(x);
        ab_xsk_reap(x);
        sent = xsk_ring_prod__reserve(&x->tx, parts, &index) == parts;
    }
    for (uint32_t i = 0; sent && i < parts; i++) {
        uint32_t bytes = AB_MIN(size, len - i * size);
        bool more = i + 1 < parts;

        memcpy(ab_xsk_data(x, frames[i]), data + (size_t)i * size, bytes);
        l->goes_on[frames[i] / size] = more;
        *xsk_ring_prod__tx_desc(&x->tx, index + i) =
            (struct xdp_desc){.addr = frames[i], .len = bytes, .options = more ? XDP_PKT_CONTD : 0};
    }
    for (uint32_t i = sent ? parts : 0; i < l->parts; i++)
        ab_umem_put(&x->umem, frames[i]);
    l->free[l->free_count++] = (uint8_t)slot;
    if (ab_unlikely(!sent)) {
        AB_STAT_ADD(&x->stats->tx_dropped, 1);
        return false;
    }
    xsk_ring_prod__submit(&x->tx, parts);
    x->submitted += parts;
    AB_STAT_ADD(&x->stats->tx_packets, 1);
    AB_STAT_ADD(&x->stats->tx_bytes, len);
    return true;
}

/* Packets among completions: of one that took several frames only the last counts. */
static uint32_t whole(struct ab_xsk *x, uint32_t index, uint32_t count)
{
    uint32_t packets = count;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *goes_on = &x->longs->goes_on[*xsk_ring_cons__comp_addr(&x->comp, index + i) / x->umem.frame_size];

        packets -= *goes_on;
        *goes_on = 0;
    }
    return packets;
}

void ab_xsk_reap(struct ab_xsk *x)
{
    uint32_t index, count, packets;

    if (x->submitted == x->completed)
        return;
    count = xsk_ring_cons__peek(&x->comp, x->config.ring, &index);
    if (count == 0)
        return;
    packets = ab_unlikely(x->longs != NULL) ? whole(x, index, count) : count;
    for (uint32_t i = 0; i < count; i++)
        ab_umem_put(&x->umem, *xsk_ring_cons__comp_addr(&x->comp, index + i));
    xsk_ring_cons__release(&x->comp, count);
    x->completed += count;
    AB_STAT_ADD(&x->stats->tx_completed, packets);
}

static uint32_t level(const uint32_t *producer, const uint32_t *consumer)
{
    return __atomic_load_n(producer, __ATOMIC_RELAXED) - __atomic_load_n(consumer, __ATOMIC_RELAXED);
}

void ab_xsk_kick(struct ab_xsk *x)
{
    if (x->busy_poll || ab_unlikely(xsk_ring_prod__needs_wakeup(&x->fill))) {
        AB_STAT_ADD(&x->stats->rx_kicks, 1);
        if (recvfrom(x->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && errno != EAGAIN && errno != EBUSY &&
            errno != ENETDOWN)
            AB_STAT_ADD(&x->stats->kick_errors, 1);
    }
    /* Entries that the kernel has not taken yet are what needs a kick, whether submitted just now or left by a kick
     * that the device refused: a batch never waits for more traffic. */
    if (level(x->tx.producer, x->tx.consumer) == 0 || !xsk_ring_prod__needs_wakeup(&x->tx))
        return;
    /* In copy mode one call sends at most 32 frames (net/xdp/xsk.c, max_tx_budget) and answers EAGAIN when more remain;
     * bounded by the ring, so that a device that refuses cannot hold the loop. */
    for (uint32_t sent = 0; sent < x->config.ring; sent += 32) {
        AB_STAT_ADD(&x->stats->tx_kicks, 1);
        if (sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
            break;
        if (errno != EAGAIN) {
            if (errno != EBUSY && errno != ENOBUFS && errno != ENETDOWN)
                AB_STAT_ADD(&x->stats->kick_errors, 1);
            break;
        }
    }
}

void ab_xsk_balance(struct ab_xsk *x)
{
    uint64_t rx = x->posted - x->received, tx = x->submitted - x->completed;
    uint64_t worker = (uint64_t)x->umem.free_count + x->held;

    if (ab_unlikely(rx + tx + worker != x->umem.frames))
        AB_STAT_ADD(&x->stats->frame_errors, 1);
    AB_STAT_SET(&x->stats->frames_rx, rx);
    AB_STAT_SET(&x->stats->frames_tx, tx);
    AB_STAT_SET(&x->stats->frames_worker, worker);
}

void ab_xsk_levels(struct ab_xsk *x)
{
    AB_STAT_SET(&x->stats->fill_level, level(x->fill.producer, x->fill.consumer));
    AB_STAT_SET(&x->stats->rx_level, level(x->rx.producer, x->rx.consumer));
    AB_STAT_SET(&x->stats->tx_level, level(x->tx.producer, x->tx.consumer));
    AB_STAT_SET(&x->stats->completion_level, level(x->comp.producer, x->comp.consumer));
}
