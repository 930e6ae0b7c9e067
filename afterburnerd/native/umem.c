#include "umem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *map(uint64_t bytes, int flags)
{
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags, -1, 0);
}

int ab_umem_init(struct ab_umem *u, uint32_t frames, uint32_t frame_size, enum ab_huge_policy huge,
                 struct ab_error *err)
{
    uint64_t used = (uint64_t)frames * frame_size;
    uint64_t round = (used + AB_HUGE_PAGE - 1) & ~(uint64_t)(AB_HUGE_PAGE - 1);

    memset(u, 0, sizeof(*u));
    if (frames == 0 || (frame_size != 2048 && frame_size != 4096))
        return ab_fail(err, AB_EINVAL, "packet memory: %u frames of %u bytes: the kernel takes frames of 2048 or 4096",
                       frames, frame_size);
    u->area = MAP_FAILED;
    if (huge != AB_HUGE_OFF) {
        u->area = map(round, MAP_HUGETLB | 21 << MAP_HUGE_SHIFT);
        u->huge = u->area != MAP_FAILED;
        u->bytes = round;
    }
    if (u->area == MAP_FAILED && huge == AB_HUGE_REQUIRE) {
        memset(u, 0, sizeof(*u)); /* nothing that ab_umem_fini would give back */
        return ab_fail(
            err, -errno,
            "packet memory: %llu MiB in 2 MiB pages cannot be had: %s; each queue needs %llu of them: reserve more "
            "with `sysctl vm.nr_hugepages=...` (`afterburnerctl doctor` computes the number), or set "
            "memory.huge_pages = \"auto\"",
            (unsigned long long)(round >> 20), strerror(errno), (unsigned long long)(round / AB_HUGE_PAGE));
    }
    if (u->area == MAP_FAILED) {
        u->area = map(used, 0);
        u->bytes = used;
    }
    if (u->area == MAP_FAILED) {
        memset(u, 0, sizeof(*u));
        return ab_fail(err, -errno, "packet memory: mmap of %llu bytes failed: %s", (unsigned long long)used,
                       strerror(errno));
    }
    /* Keys and transactions do not belong into core files. */
    madvise(u->area, u->bytes, MADV_DONTDUMP);
    u->free = malloc(sizeof(*u->free) * frames);
    if (!u->free) {
        ab_umem_fini(u);
        return ab_fail(err, AB_ENOMEM, "packet memory: no memory for the list of %u frames", frames);
    }
    u->frames = frames;
    u->frame_size = frame_size;
    /* Highest address first, so that the lowest is given out first. */
    for (uint32_t i = 0; i < frames; i++)
        u->free[i] = (uint64_t)(frames - 1 - i) * frame_size;
    u->free_count = frames;
    return 0;
}

void ab_umem_fini(struct ab_umem *u)
{
    if (u->area)
        munmap(u->area, u->bytes);
    free(u->free);
    memset(u, 0, sizeof(*u));
}
