/* Round-trip times, kept one by one and sorted at the end: a floor is measured exactly, not in buckets. */
#ifndef AB_LAB_SAMPLES_H
#define AB_LAB_SAMPLES_H

#include "base.h"

struct ab_lab_samples {
    uint32_t *ns;      /* saturated at 4.29 s */
    uint64_t count;    /* kept in `ns` */
    uint64_t capacity; /* later ones are counted as `beyond` and not kept */
    uint64_t beyond;
    uint64_t lost; /* no answer in time */
};

int ab_lab_samples_init(struct ab_lab_samples *s, uint64_t capacity, struct ab_error *err);
void ab_lab_samples_fini(struct ab_lab_samples *s);

static inline void ab_lab_samples_add(struct ab_lab_samples *s, uint64_t ns)
{
    if (ab_likely(s->count < s->capacity))
        s->ns[s->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    else
        s->beyond++;
}

/* ab_lab_samples_print sorts and writes one JSON object. */
void ab_lab_samples_print(struct ab_lab_samples *s);

#endif
