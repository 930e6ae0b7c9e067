/* must.h - a check that is always there and says which seed it was; assert() would go with NDEBUG. */
#ifndef SIM_MUST_H
#define SIM_MUST_H

#include <stdio.h>
#include <stdlib.h>

extern unsigned long long sim_seed; /* of the scenario that runs */
extern int sim_verbose;             /* tell what happens */

#define SIM_FAIL(...)                                                                                                  \
    do {                                                                                                               \
        fflush(stdout);                                                                                                \
        fprintf(stderr, "seed %llu: %s:%d: ", sim_seed, __FILE__, __LINE__);                                           \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fprintf(stderr, "\n");                                                                                         \
        abort();                                                                                                       \
    } while (0)

#define MUST_SAY(condition, ...)                                                                                       \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            SIM_FAIL(__VA_ARGS__);                                                                                     \
    } while (0)

#define SIM_MUST(condition) MUST_SAY(condition, "does not hold: %s", #condition)

#define SIM_TELL(...)                                                                                                  \
    do {                                                                                                               \
        if (__builtin_expect(sim_verbose, 0))                                                                          \
            printf(__VA_ARGS__);                                                                                       \
    } while (0)

#endif
