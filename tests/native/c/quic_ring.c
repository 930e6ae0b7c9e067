/* A ring under two threads that stand for the two processes: what is put is taken once, in order and whole.
 *
 * Heads of commands and events are alike where the ring looks (kind, length), so one ring serves both ends here. Then
 * the other side lies: counts and lengths that cannot be end the ring's use, or are read as nothing, and no byte
 * outside is touched (AddressSanitizer sees to that; ThreadSanitizer to the first part).
 *
 *   quic_ring COUNT */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "must.h"
#include "quic_ring.h"

enum { SLOTS = 8, SLOT_BYTES = 1024, ROOM = SLOT_BYTES - 64 };

_Static_assert(offsetof(struct ab_quic_command, length) == offsetof(struct ab_quic_event, length) &&
                   offsetof(struct ab_quic_command, kind) == offsetof(struct ab_quic_event, kind),
               "the ring looks at these alone");

static uint64_t bytes = sizeof(struct ab_quic_ring) + SLOTS * SLOT_BYTES;
static uint64_t total;
static struct ab_quic_ring_end producer, consumer;

static uint32_t length_of(uint64_t n)
{
    return (uint32_t)(n * 2654435761u % (ROOM + 1));
}

static void *produce(void *unused)
{
    static uint8_t body[ROOM];

    for (uint64_t n = 0; n < total;) {
        struct ab_quic_event e = {
            .conn = n, .kind = n % 3 ? AB_QUIC_COMMAND_SEND : AB_QUIC_COMMAND_ADOPT, .length = length_of(n)};

        memset(body, (int)(n & 0xff), e.length);
        if (ab_quic_ring_put(&producer, &e, body))
            n++;
        else
            MUST(!producer.broken);
    }
    return unused;
}

static void *consume(void *unused)
{
    for (uint64_t n = 0; n < total;) {
        struct ab_quic_command c;
        uint8_t *body;

        if (!ab_quic_ring_ready(&consumer) || !ab_quic_ring_take(&consumer, &c, &body)) {
            MUST(!consumer.broken);
            continue;
        }
        MUST(c.number == n && c.length == length_of(n));
        for (uint32_t i = 0; i < c.length; i++)
            MUST(body[i] == (n & 0xff));
        ab_quic_ring_forget(&consumer, &c);
        for (uint32_t i = 0; i < c.length; i++)
            MUST(body[i] == 0);
        n++;
    }
    return unused;
}

static struct ab_quic_ring *fresh(void)
{
    struct ab_quic_ring *ring = aligned_alloc(64, bytes);
    struct ab_error err;

    MUST(ring);
    memset(ring, 0, bytes);
    *ring = (struct ab_quic_ring){
        .magic = AB_QUIC_RING_MAGIC, .version = AB_VERSION, .slot_bytes = SLOT_BYTES, .slots = SLOTS};
    MUST(ab_quic_ring_open(&producer, ring, bytes, SLOT_BYTES, true, &err) == 0);
    MUST(ab_quic_ring_open(&consumer, ring, bytes, SLOT_BYTES, false, &err) == 0);
    return ring;
}

static void lies(void)
{
    struct ab_quic_event e = {.kind = AB_QUIC_COMMAND_ADOPT, .length = 32};
    struct ab_quic_ring *ring = fresh();
    struct ab_quic_command c;
    uint8_t secret[32], *body;
    struct ab_error err;

    /* a secret is gone from the slot once it was taken, and only then */
    memset(secret, 0xa5, sizeof(secret));
    MUST(ab_quic_ring_put(&producer, &e, secret));
    MUST(memcmp((uint8_t *)(ring + 1) + 64, secret, 32) == 0);
    MUST(ab_quic_ring_take(&consumer, &c, &body) && memcmp(body, secret, 32) == 0);
    for (uint32_t i = 0; i < 96; i++)
        MUST(((uint8_t *)(ring + 1))[i] == 0);
    /* a full ring takes nothing; what is too long for a slot neither */
    e.length = 0;
    for (uint32_t i = 0; i < SLOTS; i++)
        MUST(ab_quic_ring_room(&producer, 1) > 0 && ab_quic_ring_put(&producer, &e, NULL));
    MUST(!ab_quic_ring_put(&producer, &e, NULL) && ab_quic_ring_room(&producer, 1) == 0);
    while (ab_quic_ring_take(&consumer, &c, &body))
        ;
    e.length = ROOM + 1;
    MUST(!ab_quic_ring_put(&producer, &e, secret));
    /* a body longer than a slot is read as nothing */
    e.length = 0;
    MUST(ab_quic_ring_put(&producer, &e, NULL));
    for (uint32_t i = 0; i < SLOTS; i++)
        ((struct ab_quic_event *)((uint8_t *)(ring + 1) + i * SLOT_BYTES))->length = UINT32_MAX - 63;
    MUST(ab_quic_ring_take(&consumer, &c, &body) && c.kind == AB_QUIC_COMMAND_NONE && c.length == 0);
    /* more than there are slots, or fewer than there were */
    ring->head = consumer.position + SLOTS + 1;
    MUST(!ab_quic_ring_take(&consumer, &c, &body) && consumer.broken && !ab_quic_ring_ready(&consumer));
    free(ring);
    ring = fresh();
    for (uint32_t i = 0; i < SLOTS; i++)
        MUST(ab_quic_ring_put(&producer, &e, NULL));
    ring->tail = SLOTS + 1;
    MUST(!ab_quic_ring_put(&producer, &e, NULL) && producer.broken && ab_quic_ring_room(&producer, 1) == 0);
    /* a layout that is not ours */
    ring->slots = SLOTS + 1;
    MUST(ab_quic_ring_open(&producer, ring, bytes, SLOT_BYTES, true, &err) == AB_ELAYOUT);
    ring->slots = 2 * SLOTS;
    MUST(ab_quic_ring_open(&producer, ring, bytes, SLOT_BYTES, true, &err) == AB_ELAYOUT);
    ring->slots = SLOTS;
    MUST(ab_quic_ring_open(&producer, ring, bytes, 2 * SLOT_BYTES, true, &err) == AB_ELAYOUT);
    MUST(ab_quic_ring_open(&producer, ring, sizeof(*ring) - 1, SLOT_BYTES, true, &err) == AB_ELAYOUT);
    ring->version++;
    MUST(ab_quic_ring_open(&producer, ring, bytes, SLOT_BYTES, true, &err) == AB_ELAYOUT);
    free(ring);
}

/* Whoever sleeps is woken once, and does not go to sleep on something that is there. */
static void sleeps(void)
{
    struct ab_quic_event e = {.kind = AB_QUIC_COMMAND_SEND};
    struct ab_quic_ring *ring = fresh();
    struct ab_quic_command c;
    uint8_t *body;

    MUST(ab_quic_ring_put(&producer, &e, NULL) && !ab_quic_ring_wakes(&producer));
    MUST(!ab_quic_ring_doze(&consumer, true) && ring->asleep == 0);
    MUST(ab_quic_ring_take(&consumer, &c, &body) && ab_quic_ring_doze(&consumer, true));
    MUST(ab_quic_ring_put(&producer, &e, NULL) && ab_quic_ring_wakes(&producer) && !ab_quic_ring_wakes(&producer));
    MUST(ab_quic_ring_take(&consumer, &c, &body) && ab_quic_ring_doze(&consumer, true));
    MUST(ab_quic_ring_doze(&consumer, false) && !ab_quic_ring_wakes(&producer));
    free(ring);
}

/* Whoever wants more than one slot is told of all that are free, however long ago the ring was full. */
static void room(void)
{
    struct ab_quic_event e = {.kind = AB_QUIC_COMMAND_SEND};
    struct ab_quic_ring *ring = fresh();
    struct ab_quic_command c;
    uint8_t *body;

    for (uint32_t i = 0; i < 5 * SLOTS; i++) { /* taken at once, so that all but one are free at any time */
        MUST(ab_quic_ring_room(&producer, SLOTS) == SLOTS);
        MUST(ab_quic_ring_put(&producer, &e, NULL));
        MUST(ab_quic_ring_room(&producer, SLOTS) == SLOTS - 1);
        MUST(ab_quic_ring_take(&consumer, &c, &body));
    }
    for (uint32_t i = 0; i < SLOTS / 2; i++)
        MUST(ab_quic_ring_put(&producer, &e, NULL));
    MUST(ab_quic_ring_room(&producer, SLOTS / 2) >= SLOTS / 2);
    MUST(ab_quic_ring_room(&producer, SLOTS / 2 + 1) == SLOTS / 2);
    free(ring);
}

int main(int argc, char **argv)
{
    struct ab_quic_ring *ring = fresh();
    pthread_t threads[2];

    MUST(argc > 1);
    total = strtoull(argv[1], NULL, 10);
    MUST(pthread_create(&threads[0], NULL, produce, NULL) == 0 &&
         pthread_create(&threads[1], NULL, consume, NULL) == 0);
    MUST(pthread_join(threads[0], NULL) == 0 && pthread_join(threads[1], NULL) == 0);
    free(ring);
    lies();
    sleeps();
    room();
    return 0;
}
