/* Opening a queue or a socket, with each call that can fail failing once: what was taken is given back, once.
 *
 * The linker puts the functions below in front of the C library (-Wl,--wrap), and a ledger behind them: memory,
 * mappings, descriptor. The kernel is played, so this takes no privilege. Prints how many ways of failing were tried.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "worker.h"

enum { FD = 1000, SLOT = 3 };

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: call %d: does not hold: %s\n", __FILE__, __LINE__, fail_at, #condition);           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static int fail_at;     /* which fallible call fails, 0: none */
static int fail_errno;  /* with what */
static int calls;       /* fallible calls made */
static int blocks;      /* of the heap, taken and not given back */
static uint64_t mapped; /* bytes, the same */
static int closed;      /* how often FD was closed */
static bool no_huge_pages, no_zero_copy, always_busy;

static bool fails(void)
{
    if (++calls != fail_at)
        return false;
    errno = fail_errno;
    return true;
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void __real_free(void *);
void *__real_mmap(void *, size_t, int, int, int, off_t);
int __real_munmap(void *, size_t);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void __wrap_free(void *);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __wrap_munmap(void *, size_t);
int __wrap_close(int);
int __wrap_setsockopt(int, int, int, const void *, socklen_t);
int __wrap_getsockopt(int, int, int, void *, socklen_t *);
int __wrap_getsockname(int, struct sockaddr *, socklen_t *);
int __wrap_bind(int, const struct sockaddr *, socklen_t);
ssize_t __wrap_sendto(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
int __wrap_nanosleep(const struct timespec *, struct timespec *);

void *__wrap_malloc(size_t size)
{
    void *p = fails() ? NULL : __real_malloc(size);

    blocks += p != NULL;
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    void *p = fails() ? NULL : __real_calloc(n, size);

    blocks += p != NULL;
    return p;
}

void __wrap_free(void *p)
{
    blocks -= p != NULL;
    __real_free(p);
}

void *__wrap_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t off)
{
    void *p;

    MUST(fd == FD || fd == -1);
    (void)off;
    if (fails())
        return MAP_FAILED;
    if (flags & MAP_HUGETLB && no_huge_pages) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    p = __real_mmap(addr, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(p != MAP_FAILED);
    mapped += size;
    return p;
}

int __wrap_munmap(void *p, size_t size)
{
    MUST(p != MAP_FAILED && size > 0 && size <= mapped);
    mapped -= size;
    return __real_munmap(p, size);
}

int __wrap_close(int fd)
{
    MUST(fd == FD);
    closed++;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
    MUST(fd == FD && value && bytes && !closed);
    (void)level;
    (void)name;
    return fails() ? -1 : 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
    static const struct xdp_ring_offset ring = {.producer = 0, .consumer = 64, .flags = 128, .desc = 192};

    MUST(fd == FD && level == SOL_XDP && !closed);
    if (fails())
        return -1;
    memset(value, 0, *bytes);
    if (name == XDP_MMAP_OFFSETS)
        *(struct xdp_mmap_offsets *)value = (struct xdp_mmap_offsets){ring, ring, ring, ring};
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *bytes)
{
    MUST(fd == FD && !closed);
    if (fails())
        return -1;
    *(struct sockaddr_in *)(void *)address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(8001)};
    *bytes = sizeof(struct sockaddr_in);
    return 0;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
    const struct sockaddr_xdp *xdp = (const void *)address;

    MUST(fd == FD && bytes == sizeof(*xdp) && !closed);
    if (fails())
        return -1;
    errno = always_busy ? EBUSY : EOPNOTSUPP;
    return always_busy || (no_zero_copy && xdp->sxdp_flags & XDP_ZEROCOPY) ? -1 : 0;
}

ssize_t __wrap_sendto(int fd, const void *data, size_t bytes, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
    MUST(fd == FD && !data && !bytes && flags == MSG_DONTWAIT && !to && !to_bytes && !closed);
    return fails() ? -1 : 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void)time;
    (void)left;
    return 0;
}

static struct ab_worker worker;
static struct ab_stats_worker worker_stats;
static struct ab_stats_queue queue_stats;
static struct ab_stats_rule rule_stats[AB_MAX_RULES];
static struct ab_doorbell bell;

/* attempt: 0, or the error of the one failing call; afterwards nothing may be left, whichever it was. */
static int attempt(const struct ab_xsk_config *config, enum ab_udp_use use)
{
    struct ab_error err = {0};
    int rc;

    calls = closed = 0;
    rc = config ? ab_worker_open_xsk(&worker, SLOT, FD, config, false, &queue_stats, &err)
                : ab_worker_open_udp(&worker, SLOT, FD, use, 9000, &queue_stats, &err);
    if (rc) {
        MUST(rc == err.code && rc < 0 && err.text[0] && !worker.ios[SLOT]);
        MUST(ab_worker_close(&worker, SLOT, NULL) == AB_EINVAL);
    } else {
        MUST(worker.ios[SLOT] && closed == 0 && queue_stats.mode != AB_QUEUE_MODE_CLOSED);
        MUST(ab_worker_close(&worker, SLOT, NULL) == 0);
    }
    MUST(closed == 1 && blocks == 0 && mapped == 0 && worker.io_count == 0);
    MUST(queue_stats.mode == AB_QUEUE_MODE_CLOSED && worker_stats.memory_bytes == 0);
    return rc;
}

static unsigned try_all(const struct ab_xsk_config *config, enum ab_udp_use use, int error, bool opens)
{
    unsigned failed = 0;

    fail_errno = error;
    fail_at = 0;
    MUST((attempt(config, use) == 0) == opens);
    for (fail_at = 1; fail_at == 1 || calls >= fail_at - 1; fail_at++)
        failed += attempt(config, use) != 0;
    return failed;
}

int main(void)
{
    unsigned failed = 0;

    ab_worker_init(&worker, 0, &worker_stats, rule_stats, &bell);
    for (int variant = 0; variant < 3 * 3 * 16; variant++) {
        struct ab_xsk_config config = {
            .ifindex = 1,
            .frames = 64,
            .frame_size = 2048,
            .ring = 32,
            .huge = (enum ab_huge_policy)(variant % 3),
            .want = (enum ab_xsk_want)(variant / 3 % 3),
            .multi_buffer = variant / 9 & 1,
            .busy_poll = variant / 9 & 2,
        };

        no_huge_pages = variant / 9 & 4;
        no_zero_copy = variant / 9 & 8;
        failed += try_all(&config, AB_UDP_CAPTURE, EINVAL,
                          !(no_huge_pages && config.huge == AB_HUGE_REQUIRE) &&
                              !(no_zero_copy && config.want == AB_XSK_ZERO_COPY));
        failed += try_all(&config, AB_UDP_CAPTURE, ENODEV,
                          !(no_huge_pages && config.huge == AB_HUGE_REQUIRE) &&
                              !(no_zero_copy && config.want == AB_XSK_ZERO_COPY));
    }
    always_busy = true;
    failed +=
        try_all(&(struct ab_xsk_config){.frames = 64, .frame_size = 2048, .ring = 32}, AB_UDP_CAPTURE, ENOBUFS, false);
    failed += try_all(NULL, AB_UDP_CAPTURE, EBADF, true);
    failed += try_all(NULL, AB_UDP_QUIC, EBADF, true);
    ab_worker_fini(&worker);
    printf("%u\n", failed);
    return 0;
}
