/* Counts calls of the allocator, process by process, into <AB_MALLOC_COUNT>/<pid>: eight bytes that a test reads.
 * Preloaded (LD_PRELOAD) into a real daemon; mapped at start, so that it works on behind the data plane's seal. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic uint64_t *calls;

__attribute__((constructor)) static void count_into_file(void)
{
    const char *directory = getenv("AB_MALLOC_COUNT");
    char path[512];
    int fd;

    if (!directory)
        return;
    snprintf(path, sizeof(path), "%s/%d", directory, (int)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*calls)) != 0)
        return;
    calls = mmap(NULL, sizeof(*calls), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (calls == MAP_FAILED)
        calls = NULL;
}

static void ab_test_counted(void)
{
    if (calls)
        atomic_fetch_add_explicit(calls, 1, memory_order_relaxed);
}

#include "../counted_malloc.h"
