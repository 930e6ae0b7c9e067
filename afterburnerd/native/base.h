/* Ground that every module of the C helper stands on: error codes, clocks, statistics stores.
 *
 * Errors are 0 or negative: an AB_E below for what only we can know, or -errno of a failed system call (AB_E start at
 * -1000, far from any errno). The caller's `struct ab_error` receives a sentence for a person. */
#ifndef AB_BASE_H
#define AB_BASE_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "abi.h"

#define AB_EINVAL (-1001)  /* an argument is outside its bounds */
#define AB_ENOMEM (-1002)  /* memory could not be had at set-up */
#define AB_ELAYOUT (-1003) /* shared memory is not what the schema says */

#define ab_likely(x) __builtin_expect(!!(x), 1)
#define ab_unlikely(x) __builtin_expect(!!(x), 0)
#define AB_MIN(a, b) ((a) < (b) ? (a) : (b))
#define AB_MAX(a, b) ((a) > (b) ? (a) : (b))
#define AB_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define AB_CACHELINE 64

/* ab_error: what went wrong, for a person. `code` is the negative return value, `text` names the call, its arguments,
 * the errno and what to do. */
struct ab_error {
    int code;
    char text[480];
};

/* ab_fail fills `err` (which may be NULL) and returns `code`, so that one statement both explains and returns. */
__attribute__((format(printf, 3, 4))) static inline int ab_fail(struct ab_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;

        err->code = code;
        va_start(args, format);
        vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
    }
    return code;
}

/* A statistic has one writer and any number of readers in other processes: a relaxed store is all it needs to be seen
 * whole, and on x86-64 it is a plain mov. */
#define AB_STAT_SET(p, v) __atomic_store_n((p), (uint64_t)(v), __ATOMIC_RELAXED)
#define AB_STAT_ADD(p, v) AB_STAT_SET((p), *(p) + (uint64_t)(v))
#define AB_STAT_MAX(p, v)                                                                                              \
    do {                                                                                                               \
        uint64_t ab_v_ = (uint64_t)(v);                                                                                \
        if (ab_v_ > *(p))                                                                                              \
            AB_STAT_SET((p), ab_v_);                                                                                   \
    } while (0)

static inline uint64_t ab_clock_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ULL + (uint64_t)ts.tv_nsec;
}

/* ab_now_ns: CLOCK_MONOTONIC, the clock of every protocol decision; the vdso answers without a system call. */
static inline uint64_t ab_now_ns(void)
{
    return ab_clock_ns(CLOCK_MONOTONIC);
}

static inline void ab_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
