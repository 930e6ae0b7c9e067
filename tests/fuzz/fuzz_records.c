/* libFuzzer target of the record ring (afterburnerd/native/record.h): headers that somebody else laid out, and a writer
 * that never leaves what it was given.
 *
 * The first bytes choose the size of the shared memory and the fields of its header, by fields that are nearly right;
 * then each byte pair is a datagram. The memory is a heap block of exactly that size. Whether a header may be accepted
 * is said a second time here, in other words. */
#include "record.h"

#include "fuzz.h"

#define MOST_BYTES (16u << 10) /* of shared memory: a fuzzer lives on speed */

static bool acceptable(const struct ab_record_ring *h, uint64_t bytes)
{
    unsigned __int128 all = (unsigned __int128)h->slots * h->slot_bytes + sizeof(*h);

    return h->magic == AB_RECORD_MAGIC && h->version == AB_VERSION && __builtin_popcountll(h->slots) == 1 &&
           h->slot_bytes >= 192 && h->slot_bytes <= 1048576 && h->slot_bytes % 64 == 0 && all <= bytes;
}

static uint64_t choose_field(struct choices *c, uint64_t right)
{
    uint32_t how = choose(c);

    switch (how >> 5) {
    case 0:
    case 1:
        return right;
    case 2:
        return 1ull << (how & 31);
    case 3:
        return 1ull << 63 >> (how & 31);
    case 4:
        return (uint64_t)choose16(c) * ((how & 31) + 1);
    case 5:
        return right + (how & 31) - 16;
    case 6:
        return 0 - (uint64_t)(how & 31);
    default:
        return right | 1ull << (how & 31) << 32;
    }
}

static void write_records(struct ab_record_writer *w, struct choices *c, uint8_t *memory, uint64_t bytes)
{
    struct ab_record_ring *ring = (struct ab_record_ring *)memory;
    const uint64_t first = w->head, slot_bytes = ring->slot_bytes, slots = ring->slots;
    uint8_t *before = exact(memory, bytes);

    for (uint32_t n = 0; n < 64 && (c->left || n < 3); n++) {
        uint32_t len = choose16(c) & 0xfff, room = (uint32_t)slot_bytes - 128, want = len < room ? len : room;
        uint64_t sequence = first + n, at = 256 + sequence % slots * slot_bytes;
        uint8_t *payload = malloc(len);
        struct ab_record *r;

        MUST(payload || !len);
        for (uint32_t i = 0; i < len; i++)
            payload[i] = (uint8_t)(i + n);
        r = ab_record_begin(w);
        MUST((uint8_t *)r == memory + at && r->seq == 2 * sequence + 1 && ring->head == sequence);
        memset(&r->time_ns, (int)n, sizeof(*r) - sizeof(r->seq)); /* the worker fills these */
        ab_record_end(w, r, payload, len);
        MUST(r->seq == 2 * sequence + 2 && ring->head == sequence + 1);
        MUST(r->length == len && r->stored == want && memcmp(r + 1, payload, want) == 0);
        /* All else is as it was. */
        memcpy(before + at, memory + at, 128 + want);
        memcpy(before + offsetof(struct ab_record_ring, head), &ring->head, sizeof(ring->head));
        free(payload);
    }
    MUST(memcmp(before, memory, bytes) == 0);
    free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct choices c = {data, size};
    struct ab_record_ring header = {.magic = AB_RECORD_MAGIC, .version = AB_VERSION};
    uint64_t bytes = (choose16(&c) * 64u + choose(&c)) % MOST_BYTES, slots = 1u << choose(&c) % 8;
    struct ab_record_writer w;
    struct ab_error err = {0};
    void *memory;
    int rc;

    header.slots = choose_field(&c, slots);
    header.slot_bytes = choose_field(&c, bytes > 256 ? (bytes - 256) / slots & ~63ull : 0);
    header.magic = choose_field(&c, header.magic);
    header.version = choose_field(&c, header.version);
    header.head = choose_field(&c, choose16(&c));
    MUST(posix_memalign(&memory, 64, bytes) == 0);
    memset(memory, 0xa5, bytes);
    memcpy(memory, &header, bytes < sizeof(header) ? bytes : sizeof(header));
    memset(&w, 0x5a, sizeof(w));
    rc = ab_record_init(&w, memory, bytes, &err);
    MUST((rc == 0) == (bytes >= sizeof(header) && acceptable(&header, bytes)));
    MUST(rc == 0 || (rc == AB_ELAYOUT && err.code == rc && err.text[0] && !w.ring));
    if (rc == 0)
        write_records(&w, &c, memory, bytes);
    if (bytes > 8) { /* the same, but not aligned */
        memmove((uint8_t *)memory + 8, memory, bytes - 8);
        MUST(ab_record_init(&w, (uint8_t *)memory + 8, bytes - 8, &err) == AB_ELAYOUT && !w.ring);
    }
    free(memory);
    return 0;
}
