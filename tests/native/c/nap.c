/* A worker that may sleep, on a clock that only this program moves: when does its guest have its turn? The clock goes
 * on by STEP each time it is read, and by its timeout in ppoll(), which never finds a packet. usage: nap DUE_NS ...:
 * for each, prints how late the guest was called, how often the worker slept, and the longest sleep. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "worker.h"

#define STEP 100 /* ns */

static struct ab_doorbell bell;
static uint64_t clock_ns = 1000000000, due_ns, called_ns, slept, longest;

int clock_gettime(clockid_t which, struct timespec *t)
{
    (void)which;
    clock_ns += STEP;
    t->tv_sec = (time_t)(clock_ns / 1000000000);
    t->tv_nsec = (long)(clock_ns % 1000000000);
    return 0;
}

int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    uint64_t ns = (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec;

    (void)fds;
    (void)count;
    (void)mask;
    clock_ns += ns;
    if (due_ns != UINT64_MAX) { /* not the one after the call */
        slept++;
        longest = ns > longest ? ns : longest;
    }
    return 0;
}

static uint32_t commands(void *ctx, uint64_t now)
{
    (void)ctx;
    (void)now;
    return 0;
}

static uint64_t deadline(void *ctx)
{
    (void)ctx;
    return due_ns;
}

static uint32_t tx(void *ctx, uint64_t now)
{
    (void)ctx;
    called_ns = now;
    due_ns = UINT64_MAX;
    bell.word++; /* the loop is over */
    return 0;
}

static void beat(void *ctx, uint64_t now)
{
    (void)ctx;
    (void)now;
}

int main(int argc, char **argv)
{
    static struct ab_worker w;
    static struct ab_stats_worker stats;
    static struct ab_stats_rule rules[AB_MAX_RULES];
    static int self;

    ab_worker_init(&w, 0, &stats, rules, &bell);
    w.sleeps = true;
    w.guest = (struct ab_guest){.ctx = &self, .commands = commands, .deadline = deadline, .tx = tx, .beat = beat};
    for (int i = 1; i < argc; i++) {
        uint64_t due = due_ns = clock_ns + strtoull(argv[i], NULL, 10);

        slept = longest = 0;
        ab_worker_run(&w, 0);
        printf("%lld %llu %llu\n", (long long)(called_ns - due), (unsigned long long)slept,
               (unsigned long long)longest);
    }
    return 0;
}
