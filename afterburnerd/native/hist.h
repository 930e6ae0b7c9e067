/* Log-linear histograms in shared memory: 32 linear steps per power of two.
 *
 * Recording is a shift, a subtraction and four stores: no division, no search, no allocation. A bucket is at most 1/32
 * of its lower edge wide, so a quantile read from an upper edge errs by at most 3.2 %, from a midpoint by 1.6 %.
 *
 *   value   0..31   bucket = value                        (exact)
 *   value >= 32     e = bit length - 6;  bucket = (e << 5) + (value >> e)      32 buckets for each power of two */
#ifndef AB_HIST_H
#define AB_HIST_H

#include "base.h"

#define AB_HIST_SUB (1u << AB_HIST_SUB_BITS)

_Static_assert(AB_HIST_BUCKETS == (AB_HIST_MAX_BITS - AB_HIST_SUB_BITS + 1) << AB_HIST_SUB_BITS, "histogram geometry");

static inline uint32_t ab_hist_index(uint64_t value)
{
    if (value < AB_HIST_SUB)
        return (uint32_t)value;
    if (ab_unlikely(value >> AB_HIST_MAX_BITS))
        return AB_HIST_BUCKETS - 1;
    uint32_t e = 63u - (uint32_t)__builtin_clzll(value) - AB_HIST_SUB_BITS;

    return (e << AB_HIST_SUB_BITS) + (uint32_t)(value >> e);
}

/* ab_hist_edge: smallest value that falls into bucket `index`. */
static inline uint64_t ab_hist_edge(uint32_t index)
{
    if (index < 2 * AB_HIST_SUB)
        return index;
    uint32_t e = (index >> AB_HIST_SUB_BITS) - 1;

    return (uint64_t)(AB_HIST_SUB + (index & (AB_HIST_SUB - 1))) << e;
}

/* ab_hist_add records `value` `times` times. The single writer is the caller. */
static inline void ab_hist_add(struct ab_hist *h, uint64_t value, uint64_t times)
{
    uint64_t *bucket = &h->buckets[ab_hist_index(value)];

    AB_STAT_ADD(bucket, times);
    AB_STAT_ADD(&h->sum, value * times);
    if (ab_unlikely(h->count == 0 || value < h->min))
        AB_STAT_SET(&h->min, value);
    AB_STAT_MAX(&h->max, value);
    AB_STAT_ADD(&h->count, times);
}

#endif
