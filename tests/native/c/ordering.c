/* What the C code publishes to other processes, published to a thread, so that ThreadSanitizer can judge the order.
 *
 * A ring that laps its reader is a race by design, which the seqlock detects and ThreadSanitizer would report. Here the
 * writer waits for the reader, so all that is read was published, and whatever is not is a fault. The other half of the
 * seqlock, "being written" before the first byte, is a fence and out of the sanitizer's sight: tests/native/c/
 * record_hammer.c tries that out.
 *
 * argv: sequence  a reader that trusts the sequence word of the slot alone
 *       head      a reader that trusts the ring's head alone
 *       worker    a whole worker on a socket: its statistics read word by word while it runs, its records by their
 *                 sequence words, its loop left by the doorbell */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "must.h"
#include "record.h"
#include "worker.h"

enum {
    RECORDS = 20000,
    SLOTS = 8,
    WORDS = 16,
    SLOT_BYTES = 128 + WORDS * 8,
    DATAGRAMS = 2000,
    MANY_SLOTS = 4096,
};

static struct ab_record_ring *ring_make(uint64_t slots)
{
    struct ab_record_ring *ring;

    MUST(posix_memalign((void **)&ring, 64, sizeof(*ring) + slots * SLOT_BYTES) == 0);
    memset(ring, 0, sizeof(*ring) + slots * SLOT_BYTES);
    ring->magic = AB_RECORD_MAGIC;
    ring->version = AB_VERSION;
    ring->slots = slots;
    ring->slot_bytes = SLOT_BYTES;
    return ring;
}

static struct ab_record *slot_of(struct ab_record_ring *ring, uint64_t n)
{
    return (struct ab_record *)((uint8_t *)(ring + 1) + n % ring->slots * SLOT_BYTES);
}

static uint64_t consumed; /* records that the reader is done with: release, and acquired by the writer */

static void *write_records(void *ring)
{
    struct ab_record_writer w;
    struct ab_error err;
    uint64_t payload[WORDS];

    MUST(ab_record_init(&w, ring, sizeof(struct ab_record_ring) + SLOTS * SLOT_BYTES, &err) == 0);
    for (uint64_t n = 0; n < RECORDS; n++) {
        struct ab_record *r;

        while (n - __atomic_load_n(&consumed, __ATOMIC_ACQUIRE) >= SLOTS)
            sched_yield();
        for (unsigned i = 0; i < WORDS; i++)
            payload[i] = n;
        r = ab_record_begin(&w);
        r->time_ns = n;
        ab_record_end(&w, r, (const uint8_t *)payload, sizeof(payload));
    }
    return NULL;
}

static void read_records(bool by_sequence)
{
    struct ab_record_ring *ring = ring_make(SLOTS);
    pthread_t writer;

    MUST(pthread_create(&writer, NULL, write_records, ring) == 0);
    for (uint64_t n = 0; n < RECORDS; n++) {
        struct ab_record *r = slot_of(ring, n);
        const uint64_t *payload = (const uint64_t *)(r + 1);

        if (by_sequence)
            while (__atomic_load_n(&r->seq, __ATOMIC_ACQUIRE) != 2 * n + 2)
                sched_yield();
        else
            while (__atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) <= n)
                sched_yield();
        MUST(r->time_ns == n && r->length == WORDS * 8 && r->stored == WORDS * 8);
        for (unsigned i = 0; i < WORDS; i++)
            MUST(payload[i] == n);
        __atomic_store_n(&consumed, n + 1, __ATOMIC_RELEASE);
    }
    pthread_join(writer, NULL);
    free(ring);
}

static struct ab_worker worker;
static struct ab_stats_worker worker_stats;
static struct ab_stats_queue queue_stats;
static struct ab_stats_rule rule_stats[AB_MAX_RULES];
static struct ab_doorbell bell;

static void *run_worker(void *unused)
{
    (void)unused;
    MUST(ab_worker_run(&worker, 0) == AB_WORKER_DOORBELL);
    return NULL;
}

/* look: every word, as a reader in another process would. */
static uint64_t look(const void *block, size_t bytes)
{
    const uint64_t *word = block;
    uint64_t sum = 0;

    for (size_t i = 0; i < bytes / 8; i++)
        sum += __atomic_load_n(&word[i], __ATOMIC_RELAXED);
    return sum;
}

static int open_socket(struct sockaddr_in *address)
{
    socklen_t bytes = sizeof(*address);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)address, bytes) == 0);
    MUST(getsockname(fd, (struct sockaddr *)address, &bytes) == 0);
    return fd;
}

static void watch_worker(void)
{
    struct ab_record_ring *ring = ring_make(MANY_SLOTS);
    struct sockaddr_in to, from;
    int in = open_socket(&to), out = open_socket(&from);
    struct ab_rule rule = {.port = ntohs(to.sin_port), .decoder = AB_DECODER_SOLANA_TX};
    uint64_t seen = 0, deadline = ab_now_ns() + 60000000000ull;
    struct ab_error err;
    uint8_t payload[64] = {1};
    pthread_t thread;

    memcpy(rule.addr, (const uint8_t[12]){[10] = 0xff, [11] = 0xff}, 12);
    memcpy(rule.addr + 12, &to.sin_addr, 4);
    ab_worker_init(&worker, 0, &worker_stats, rule_stats, &bell);
    MUST(ab_rules_init(&worker.rules, &rule, 1, &err) == 0);
    MUST(ab_record_init(&worker.records, ring, sizeof(*ring) + MANY_SLOTS * SLOT_BYTES, &err) == 0);
    MUST(ab_worker_open_udp(&worker, 0, in, AB_UDP_CAPTURE, 0, &queue_stats, &err) == 0);
    worker.sleeps = true;
    MUST(pthread_create(&thread, NULL, run_worker, NULL) == 0);
    for (uint64_t sent = 0; seen < DATAGRAMS && ab_now_ns() < deadline;) {
        if (sent < DATAGRAMS && sent - seen < 32) { /* few on the way: none is lost */
            payload[63] = (uint8_t)sent++;
            MUST(sendto(out, payload, sizeof(payload), 0, (struct sockaddr *)&to, sizeof(to)) == sizeof(payload));
        }
        if (sent % 16 == 0)
            look(&worker_stats, sizeof(worker_stats));
        look(&queue_stats, sizeof(queue_stats));
        look(rule_stats, sizeof(rule_stats));
        while (__atomic_load_n(&slot_of(ring, seen)->seq, __ATOMIC_ACQUIRE) == 2 * seen + 2) {
            const struct ab_record *r = slot_of(ring, seen);

            MUST(r->kind == AB_RECORD_MALFORMED && r->length == 64 && r->tx.reason == r->reason);
            MUST(((const uint8_t *)(r + 1))[63] == (uint8_t)seen);
            seen++;
        }
    }
    __atomic_store_n(&bell.word, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    MUST(seen == DATAGRAMS && worker_stats.records == DATAGRAMS && worker_stats.control_turns == 1);
    MUST(rule_stats[0].malformed == DATAGRAMS && queue_stats.rx_packets == DATAGRAMS);
    ab_worker_fini(&worker);
    close(out);
    free(ring);
}

int main(int argc, char **argv)
{
    const char *what = argv[argc - 1];

    if (strcmp(what, "worker") == 0)
        watch_worker();
    else
        read_records(strcmp(what, "sequence") == 0);
    puts("done");
    return 0;
}
