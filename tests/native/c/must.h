/* A check that is always there, as assert() is not (NDEBUG), and says where and with what errno it fails. */
#ifndef TESTS_MUST_H
#define TESTS_MUST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
