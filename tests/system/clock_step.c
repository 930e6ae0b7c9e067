/* The wall clock of one process and its children, stepped by a test: no process of anybody else's notices.
 *
 * Preloaded (LD_PRELOAD) into a real daemon. <AB_CLOCK_STEP> is a file of two words: nanoseconds that are added to
 * CLOCK_REALTIME, written by the test, and how often it was asked for. It is mapped at start, so that it works on
 * behind the data plane's seal. Every other clock is the kernel's own. The interpreter and the C helper ask by these
 * functions and by no other; that they do is what the second word is for.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NS = 1000000000 };

struct step {
    _Atomic int64_t offset_ns;
    _Atomic uint64_t asked;
};

static struct step *step;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_step(void)
{
    const char *path = getenv("AB_CLOCK_STEP");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (fd < 0)
        return;
    step = mmap(NULL, sizeof(*step), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (step == MAP_FAILED)
        step = NULL;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
    int64_t ns;
    int rc;

    if (!real) /* asked by another library's constructor */
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    rc = real(clock, ts);
    if (rc != 0 || !step || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return rc;
    atomic_fetch_add_explicit(&step->asked, 1, memory_order_relaxed);
    ns = ts->tv_sec * (int64_t)NS + ts->tv_nsec + atomic_load_explicit(&step->offset_ns, memory_order_relaxed);
    ts->tv_sec = ns / NS;
    ts->tv_nsec = ns % NS;
    return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec ts;

    if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
        return -1;
    if (out)
        *out = ts.tv_sec;
    return ts.tv_sec;
}
