/* The allocator, with every call that takes or gives back memory told to ab_test_counted(), which the includer defines
 * before. In front of the C library's own functions, so include it once in a program or preloaded library. */
#ifndef TESTS_COUNTED_MALLOC_H
#define TESTS_COUNTED_MALLOC_H

#include <stdlib.h>

#define COUNTED(type, name, parameters, ...)                                                                           \
    type name parameters                                                                                               \
    {                                                                                                                  \
        extern type __libc_##name parameters;                                                                          \
        ab_test_counted();                                                                                             \
        return __libc_##name(__VA_ARGS__);                                                                             \
    }

COUNTED(void *, malloc, (size_t size), size)
COUNTED(void *, calloc, (size_t count, size_t size), count, size)
COUNTED(void *, realloc, (void *old, size_t size), old, size)
COUNTED(void *, memalign, (size_t alignment, size_t size), alignment, size)

void free(void *old)
{
    extern void __libc_free(void *);

    if (old)
        ab_test_counted();
    __libc_free(old);
}

#endif
