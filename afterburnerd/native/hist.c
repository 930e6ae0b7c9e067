#include "hist.h"

_Static_assert(AB_HIST_BUCKETS == (AB_HIST_MAX_BITS - AB_HIST_SUB_BITS + 1) << AB_HIST_SUB_BITS, "histogram geometry");

uint64_t ab_hist_quantile(const struct ab_hist *h, double q)
{
    uint64_t want = (uint64_t)(q * (double)h->count), seen = 0;

    for (uint32_t i = 0; i < AB_HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > want)
            return AB_MIN(ab_hist_edge(i + 1) - 1, h->max);
    }
    return h->count ? h->max : 0;
}
