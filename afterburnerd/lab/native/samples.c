#include <stdlib.h>
#include <string.h>

#include "samples.h"

int ab_lab_samples_init(struct ab_lab_samples *s, uint64_t capacity, struct ab_error *err)
{
    memset(s, 0, sizeof(*s));
    s->ns = malloc(capacity * sizeof(*s->ns));
    if (!s->ns)
        return ab_fail(err, AB_ENOMEM, "no memory for %llu samples", (unsigned long long)capacity);
    memset(s->ns, 0, capacity * sizeof(*s->ns)); /* touched now, so that no page fault falls into a sample */
    s->capacity = capacity;
    return 0;
}

void ab_lab_samples_fini(struct ab_lab_samples *s)
{
    free(s->ns);
    memset(s, 0, sizeof(*s));
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

void ab_lab_samples_print(struct ab_lab_samples *s)
{
    static const struct {
        const char *name;
        double q;
    } points[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};

    uint64_t sum = 0;

    qsort(s->ns, s->count, sizeof(*s->ns), compare);
    for (uint64_t i = 0; i < s->count; i++)
        sum += s->ns[i];
    printf("{\"count\":%llu,\"lost\":%llu,\"beyond\":%llu", (unsigned long long)s->count, (unsigned long long)s->lost,
           (unsigned long long)s->beyond);
    if (s->count) {
        printf(",\"min\":%u", s->ns[0]);
        for (unsigned i = 0; i < AB_ARRAY_LEN(points); i++)
            printf(",\"%s\":%u", points[i].name, s->ns[(uint64_t)(points[i].q * (double)(s->count - 1))]);
        printf(",\"max\":%u,\"mean\":%llu", s->ns[s->count - 1], (unsigned long long)(sum / s->count));
    }
    printf("}\n");
    fflush(stdout);
}
