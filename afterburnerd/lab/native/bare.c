#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "bare.h"

#ifndef SO_PREFER_BUSY_POLL /* Linux 5.11 */
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

static int map_memory(struct ab_bare *b, const struct ab_lab_options *o, struct ab_error *err)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;

    b->area_bytes = (uint64_t)o->frames * o->frame_size;
    b->area = MAP_FAILED;
    if (b->area_bytes % (2u << 20) == 0)
        b->area = mmap(NULL, b->area_bytes, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
    b->huge = b->area != MAP_FAILED;
    if (!b->huge)
        b->area = mmap(NULL, b->area_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (b->area == MAP_FAILED) {
        b->area = NULL;
        return ab_fail(err, -errno, "mmap(%llu bytes of packet memory): %s", (unsigned long long)b->area_bytes,
                       strerror(errno));
    }
    return 0;
}

static int map_ring(struct ab_bare *b, int which, const struct xdp_ring_offset *at, uint32_t size, size_t entry,
                    uint64_t pgoff, uint8_t **base, struct ab_error *err)
{
    size_t bytes = at->desc + size * entry;
    void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, b->fd, (off_t)pgoff);

    if (addr == MAP_FAILED)
        return ab_fail(err, -errno, "mmap(ring %d of AF_XDP): %s", which, strerror(errno));
    b->maps[which].addr = addr;
    b->maps[which].bytes = bytes;
    *base = addr;
    return 0;
}

/* The two kinds of ring have equal members, so that one macro wires both. */
#define WIRE(r, base, at, n)                                                                                           \
    do {                                                                                                               \
        (r)->producer = (__u32 *)((base) + (at)->producer);                                                            \
        (r)->consumer = (__u32 *)((base) + (at)->consumer);                                                            \
        (r)->flags = (__u32 *)((base) + (at)->flags);                                                                  \
        (r)->ring = (base) + (at)->desc;                                                                               \
        (r)->size = (n);                                                                                               \
        (r)->mask = (n)-1;                                                                                             \
    } while (0)

static int make_rings(struct ab_bare *b, const struct ab_lab_options *o, struct ab_error *err)
{
    struct xdp_umem_reg reg = {.addr = (uintptr_t)b->area, .len = b->area_bytes, .chunk_size = o->frame_size};
    static const int names[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING};
    struct xdp_mmap_offsets off;
    socklen_t len = sizeof(off);
    uint8_t *base = NULL;
    int rc;

    if (setsockopt(b->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)))
        return ab_fail(err, -errno, "setsockopt(XDP_UMEM_REG, %u frames): %s", o->frames, strerror(errno));
    for (unsigned i = 0; i < AB_ARRAY_LEN(names); i++)
        if (setsockopt(b->fd, SOL_XDP, names[i], &o->ring, sizeof(o->ring)))
            return ab_fail(err, -errno, "setsockopt(AF_XDP ring of %u): %s", o->ring, strerror(errno));
    if (getsockopt(b->fd, SOL_XDP, XDP_MMAP_OFFSETS, &off, &len))
        return ab_fail(err, -errno, "getsockopt(XDP_MMAP_OFFSETS): %s", strerror(errno));
    if ((rc = map_ring(b, 0, &off.fr, o->ring, sizeof(__u64), XDP_UMEM_PGOFF_FILL_RING, &base, err)))
        return rc;
    WIRE(&b->fill, base, &off.fr, o->ring);
    b->fill.cached_cons = o->ring;
    if ((rc = map_ring(b, 1, &off.cr, o->ring, sizeof(__u64), XDP_UMEM_PGOFF_COMPLETION_RING, &base, err)))
        return rc;
    WIRE(&b->comp, base, &off.cr, o->ring);
    if ((rc = map_ring(b, 2, &off.rx, o->ring, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING, &base, err)))
        return rc;
    WIRE(&b->rx, base, &off.rx, o->ring);
    if ((rc = map_ring(b, 3, &off.tx, o->ring, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING, &base, err)))
        return rc;
    WIRE(&b->tx, base, &off.tx, o->ring);
    b->tx.cached_cons = o->ring;
    return 0;
}

/* return bpf_redirect_map(&map, ctx->rx_queue_index, XDP_PASS) */
static int attach(struct ab_bare *b, const struct ab_lab_options *o, struct ab_error *err)
{
    uint32_t key = o->queue;

    b->map = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "bare_xsks", 4, 4, o->queue + 1, NULL);
    if (b->map < 0)
        return ab_fail(err, b->map, "bpf(BPF_MAP_CREATE, XSKMAP): %s", strerror(errno));
    const struct bpf_insn insns[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2, .src_reg = 1, .off = offsetof(struct xdp_md, rx_queue_index)},
        {.code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = b->map},
        {0},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map},
        {.code = BPF_JMP | BPF_EXIT},
    };
    LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = BPF_XDP);
    LIBBPF_OPTS(bpf_link_create_opts, create, .flags = o->generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);

    b->prog = bpf_prog_load(BPF_PROG_TYPE_XDP, "bare_redirect", "GPL", insns, AB_ARRAY_LEN(insns), &load);
    if (b->prog < 0)
        return ab_fail(err, b->prog, "bpf(BPF_PROG_LOAD, the floor's program): %s", strerror(errno));
    if (bpf_map_update_elem(b->map, &key, &b->fd, 0))
        return ab_fail(err, -errno, "bpf(BPF_MAP_UPDATE_ELEM, XSKMAP, queue %u): %s", o->queue, strerror(errno));
    b->link = bpf_link_create(b->prog, (int)b->ifindex, BPF_XDP, &create);
    if (b->link < 0)
        return ab_fail(err, b->link, "attaching an XDP program to %s: %s", o->device, strerror(errno));
    return 0;
}

int ab_bare_open(struct ab_bare *b, const struct ab_lab_options *o, bool receive, struct ab_error *err)
{
    struct sockaddr_xdp sxdp = {
        .sxdp_family = AF_XDP, .sxdp_queue_id = o->queue, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP};
    int rc, on = 1, usecs = 20, budget = 64;
    uint32_t index;

    memset(b, 0, sizeof(*b));
    b->fd = b->link = b->prog = b->map = -1;
    b->frame_size = o->frame_size;
    b->busy_poll = o->busy_poll;
    b->first_send = receive ? o->frames / 2 : 0;
    b->sends = o->frames - b->first_send;
    if (!o->device)
        return ab_fail(err, AB_EINVAL, "this mode needs --device");
    b->ifindex = sxdp.sxdp_ifindex = if_nametoindex(o->device);
    if (!b->ifindex)
        return ab_fail(err, -errno, "no interface %s here: %s", o->device, strerror(errno));
    b->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (b->fd < 0)
        return ab_fail(err, -errno, "socket(AF_XDP): %s", strerror(errno));
    if ((rc = map_memory(b, o, err)) || (rc = make_rings(b, o, err)))
        goto fail;
    if (receive) {
        uint32_t n = AB_MIN(b->first_send, o->ring);

        if (xsk_ring_prod__reserve(&b->fill, n, &index) != n) {
            rc = ab_fail(err, AB_EINVAL, "the FILL ring does not take %u frames", n);
            goto fail;
        }
        for (uint32_t i = 0; i < n; i++)
            *xsk_ring_prod__fill_addr(&b->fill, index + i) = (uint64_t)i * b->frame_size;
        xsk_ring_prod__submit(&b->fill, n);
        if ((rc = attach(b, o, err)))
            goto fail;
    }
    if (o->busy_poll && (setsockopt(b->fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof(on)) ||
                         setsockopt(b->fd, SOL_SOCKET, SO_BUSY_POLL, &usecs, sizeof(usecs)) ||
                         setsockopt(b->fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof(budget)))) {
        rc = ab_fail(err, -errno, "setsockopt(busy polling): %s", strerror(errno));
        goto fail;
    }
    /* The queue of a socket that was just closed stays taken until an RCU grace period is over. */
    for (int tries = 0; bind(b->fd, (struct sockaddr *)&sxdp, sizeof(sxdp)); tries++) {
        if (errno != EBUSY || tries == 100) {
            rc = ab_fail(err, -errno, "bind(AF_XDP, %s, queue %u): %s", o->device, o->queue, strerror(errno));
            goto fail;
        }
        usleep(20000);
    }
    return 0;
fail:
    ab_bare_close(b);
    return rc;
}

void ab_bare_close(struct ab_bare *b)
{
    const int fds[] = {b->link, b->fd, b->prog, b->map};

    for (unsigned i = 0; i < AB_ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (unsigned i = 0; i < AB_ARRAY_LEN(b->maps); i++)
        if (b->maps[i].addr)
            munmap(b->maps[i].addr, b->maps[i].bytes);
    if (b->area)
        munmap(b->area, b->area_bytes);
    memset(b, 0, sizeof(*b));
    b->fd = b->link = b->prog = b->map = -1;
}

int ab_bare_kick(struct ab_bare *b)
{
    if (sendto(b->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0 || errno == EAGAIN || errno == EBUSY || errno == ENOBUFS ||
        errno == EINTR)
        return 0;
    return -errno;
}

void ab_bare_poll(struct ab_bare *b)
{
    recvfrom(b->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}
