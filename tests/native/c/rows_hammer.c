/* Writes rows of connections as fast as it can, until its standard input ends: all figures of a row are the same
 * number, so that a reader recognises a torn one. Every eighth is a connection that ends. usage: rows_hammer PATH */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quic_conn.h"
#include "quic_rows.h"

int main(int argc, char **argv)
{
    struct ab_quic_rows_writer writer;
    struct ab_error err;
    struct stat info;
    struct pollfd in = {.fd = 0, .events = POLLIN | POLLHUP};
    struct ab_quic_conn *c = calloc(1, sizeof(*c) + 64);
    int fd = open(argv[argc - 1], O_RDWR);
    uint64_t n = 0;

    if (!c || fd < 0 || fstat(fd, &info))
        return 1;
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || ab_quic_rows_open(&writer, memory, (uint64_t)info.st_size, &err))
        return 1;
    puts("ready");
    fflush(stdout);
    while (poll(&in, 1, 0) == 0) {
        for (uint32_t i = 0; i < 1u << (6 + n % 11); i++) {
            uint64_t *counts = (uint64_t *)&c->counts;

            n++;
            c->id = c->adopted_ns = c->rtt.smoothed_ns = c->rtt.min_ns = c->cc.window = c->tx_limit = n;
            c->state = AB_QUIC_STATE_OPEN;
            for (size_t k = 0; k < sizeof(c->counts) / sizeof(*counts); k++)
                counts[k] = n;
            if (n % 8)
                ab_quic_rows_write(&writer, (uint32_t)(n * 2654435761u) % (writer.count + 1), c, n);
            else
                ab_quic_rows_free(&writer, (uint32_t)(n / 8) % writer.count, n);
        }
        if (n % 5 == 0)
            usleep(20);
    }
    printf("%llu\n", (unsigned long long)n);
    return 0;
}
