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

/* The histogram of sorted samples: buckets that have any, by their lower edge. Edges are 1, 1.5, 2, 3, 5, 7 times
 * powers of ten, so that a bucket is at most half as wide again as where it begins, and reads well. */
static void print_buckets(const struct ab_lab_samples *s)
{
    static const uint64_t steps[] = {10, 15, 20, 30, 50, 70};
    uint64_t lower = 0, at = 0, from, to;
    const char *comma = "";

    printf(",\"buckets\":[");
    for (uint64_t scale = 10; at < s->count; scale *= 10) { /* the first edge is 100 ns; below it is one bucket */
        for (unsigned i = 0; i < AB_ARRAY_LEN(steps) && at < s->count; i++) {
            to = steps[i] * scale;
            from = at;
            while (at < s->count && s->ns[at] < to)
                at++;
            if (at > from) {
                printf("%s[%llu,%llu,%llu]", comma, (unsigned long long)lower, (unsigned long long)to,
                       (unsigned long long)(at - from));
                comma = ",";
            }
            lower = to;
        }
    }
    printf("]");
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
        print_buckets(s);
    }
    printf("}\n");
    fflush(stdout);
}
