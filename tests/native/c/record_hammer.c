/* Writes records as fast as it can, until its standard input ends: each has its number in every word of its payload, so
 * that a reader recognises a torn one. The last line that it prints is how many it wrote. usage: record_hammer PATH */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"

int main(int argc, char **argv)
{
    struct ab_record_writer writer;
    struct ab_error err;
    struct stat info;
    struct pollfd in = {.fd = 0, .events = POLLIN | POLLHUP};
    int fd = open(argv[argc - 1], O_RDWR);
    uint64_t payload[64];

    if (fd < 0 || fstat(fd, &info))
        return 1;
    void *memory = mmap(NULL, (size_t)info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED || ab_record_init(&writer, memory, (uint64_t)info.st_size, &err))
        return 1;
    puts("ready");
    fflush(stdout);
    while (poll(&in, 1, 0) == 0) {
        /* Bursts and pauses, so that readers see all of it at times and are lapped at others. */
        uint32_t burst = 1u << (writer.head % 13);
        for (uint32_t n = 0; n < burst; n++) {
            for (unsigned i = 0; i < AB_ARRAY_LEN(payload); i++)
                payload[i] = writer.head;
            struct ab_record *r = ab_record_begin(&writer);
            r->kind = AB_RECORD_DATAGRAM;
            r->time_ns = writer.head;
            r->mono_ns = writer.head;
            ab_record_end(&writer, r, (const uint8_t *)payload, sizeof(payload));
        }
        usleep(50);
    }
    printf("%llu\n", (unsigned long long)writer.head);
    return 0;
}
