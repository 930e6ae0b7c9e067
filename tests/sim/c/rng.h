/* rng.h - the one source of chance in a simulation: what is drawn depends on the seed and nothing else. */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state;
    const uint8_t *choices; /* a fuzzer's input: as long as it lasts, two bytes of it decide instead */
    size_t left;
};

/* splitmix64 (Steele, Lea, Flood 2014): any seed is a good one. */
static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    if (r->left >= 2) {
        z = z >> 16 | (uint64_t)r->choices[0] << 56 | (uint64_t)r->choices[1] << 48;
        r->choices += 2;
        r->left -= 2;
    }
    return z;
}

/* rng_below: 0 to n - 1; n > 0. */
static inline uint64_t rng_below(struct rng *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)rng_next(r) * n) >> 64);
}

/* rng_between: low to high, both inclusive. */
static inline uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high)
{
    return low + rng_below(r, high - low + 1);
}

static inline bool rng_chance(struct rng *r, double share)
{
    return (double)(rng_next(r) >> 11) * 0x1.0p-53 < share;
}

static inline void rng_bytes(struct rng *r, void *out, uint32_t len)
{
    uint8_t *p = out;

    for (uint32_t i = 0; i < len; i++)
        p[i] = (uint8_t)(rng_next(r) >> 32);
}

#define RNG_OF(r, ...)                                                                                                 \
    ((const uint64_t[]){__VA_ARGS__}[rng_below((r), sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))])

#endif
