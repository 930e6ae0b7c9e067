/* Packet memory: one region of equal frames for each queue, registered with its AF_XDP socket.
 *
 * Who owns a frame (invariant: each frame is in exactly one place, and the places add up):
 *
 *        post                    receive
 *   free ------> kernel receive ---------> worker (held during a burst) --.
 *    ^  ^                                                                 | release
 *    |  '-----------------------------------------------------------------'
 *    |   complete                  submit
 *    '----------- kernel transmit <------- worker
 *
 * The free list is a stack: the frame given out next is the one touched last, still warm in the cache. The region lies
 * in 2 MiB pages where the machine has some reserved: 8 MiB are then 4 entries of the TLB instead of 2,048. */
#ifndef AB_UMEM_H
#define AB_UMEM_H

#include "base.h"

#define AB_HUGE_PAGE (2u << 20)

enum ab_huge_policy {
    AB_HUGE_AUTO = 0,    /* huge pages if there are any, else normal ones */
    AB_HUGE_REQUIRE = 1, /* refuse to start without */
    AB_HUGE_OFF = 2,     /* normal pages */
};

struct ab_umem {
    uint8_t *area;       /* first frame */
    uint64_t bytes;      /* size of the mapping */
    uint32_t frame_size; /* bytes, a power of two: 2048 or 4096 */
    uint32_t frames;     /* how many */
    uint32_t free_count; /* entries of `free` in use */
    bool huge;           /* lies in 2 MiB pages */
    uint64_t *free;      /* stack of addresses (offsets from `area`) of frames that nobody holds */
};

/* ab_umem_init maps and populates the region, every frame free. */
int ab_umem_init(struct ab_umem *u, uint32_t frames, uint32_t frame_size, enum ab_huge_policy huge,
                 struct ab_error *err);
void ab_umem_fini(struct ab_umem *u);

/* ab_umem_base: address of the frame that holds `addr` (a descriptor points somewhere into its frame). */
static inline uint64_t ab_umem_base(const struct ab_umem *u, uint64_t addr)
{
    return addr & ~(uint64_t)(u->frame_size - 1);
}

static inline void ab_umem_put(struct ab_umem *u, uint64_t addr)
{
    u->free[u->free_count++] = ab_umem_base(u, addr);
}

/* ab_umem_get: false when no frame is free. */
static inline bool ab_umem_get(struct ab_umem *u, uint64_t *addr)
{
    if (ab_unlikely(u->free_count == 0))
        return false;
    *addr = u->free[--u->free_count];
    return true;
}

#endif
