/* What the fuzz targets share: a check that is always there, exact copies, and a cursor over the input. */
#ifndef AB_FUZZ_H
#define AB_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* assert() is not used: it would go with NDEBUG. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input that is read as a sequence of choices. Behind its end it is zero for ever. */
struct choices {
    const uint8_t *p;
    size_t left;
};

static inline uint32_t choose(struct choices *c)
{
    if (c->left == 0)
        return 0;
    c->left--;
    return *c->p++;
}

static inline uint32_t choose16(struct choices *c)
{
    uint32_t low = choose(c);

    return low | choose(c) << 8;
}

/* exact: a heap block of exactly `size` bytes, so that AddressSanitizer sees an access to even one byte beyond it. */
static inline uint8_t *exact(const void *data, size_t size)
{
    uint8_t *p = malloc(size);

    MUST(p);
    if (size)
        memcpy(p, data, size);
    return p;
}

/* readable: every byte of it, or AddressSanitizer says so. */
static inline void readable(const void *data, size_t size)
{
    static volatile uint8_t sink;
    uint8_t sum = 0;

    for (size_t i = 0; i < size; i++)
        sum ^= ((const uint8_t *)data)[i];
    sink = sum;
    (void)sink;
}

#endif
