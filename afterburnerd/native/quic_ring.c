#include "quic_ring.h"

#include <string.h>

int ab_quic_ring_open(struct ab_quic_ring_end *e, void *memory, uint64_t bytes, uint32_t slot_bytes, bool producer,
                      struct ab_error *err)
{
    struct ab_quic_ring said;

    memset(e, 0, sizeof(*e));
    if (bytes < sizeof(said) || (uintptr_t)memory % AB_CACHELINE)
        return ab_fail(err, AB_ELAYOUT, "QUIC ring: %llu bytes of shared memory at %p are too few or not aligned",
                       (unsigned long long)bytes, memory);
    /* Copied once, then judged: whoever else can write it shall not change it in between. */
    memcpy(&said, memory, sizeof(said));
    __asm__ volatile("" : : "r"(&said) : "memory"); /* nor the compiler read it again */
    if (said.magic != AB_QUIC_RING_MAGIC || said.version != AB_VERSION)
        return ab_fail(err, AB_ELAYOUT, "QUIC ring: no ring of layout version %d in %llu bytes of shared memory",
                       AB_VERSION, (unsigned long long)bytes);
    if (said.slots == 0 || said.slots & (said.slots - 1) || said.slot_bytes != slot_bytes ||
        slot_bytes > AB_QUIC_SLOT_MAX || slot_bytes % AB_CACHELINE ||
        said.slots > (bytes - sizeof(said)) / said.slot_bytes)
        return ab_fail(err, AB_ELAYOUT, "QUIC ring: %llu slots of %llu bytes, expected are %u, do not fit %llu bytes",
                       (unsigned long long)said.slots, (unsigned long long)said.slot_bytes, slot_bytes,
                       (unsigned long long)bytes);
    e->ring = memory;
    e->slots = (uint8_t *)memory + sizeof(said);
    e->mask = said.slots - 1;
    e->slot_bytes = slot_bytes;
    e->position = __atomic_load_n(producer ? &e->ring->head : &e->ring->tail, __ATOMIC_ACQUIRE);
    e->seen = __atomic_load_n(producer ? &e->ring->tail : &e->ring->head, __ATOMIC_ACQUIRE);
    return 0;
}

uint64_t ab_quic_ring_room(struct ab_quic_ring_end *e, uint64_t wanted)
{
    uint64_t used;

    if (!e->ring || e->broken)
        return 0;
    if (e->position - e->seen + wanted > e->mask + 1) {
        /* Acquire: the consumer has done with the slots that it gives back before we write to them. */
        e->seen = __atomic_load_n(&e->ring->tail, __ATOMIC_ACQUIRE);
    }
    used = e->position - e->seen;
    if (ab_unlikely(used > e->mask + 1)) {
        e->broken = true;
        return 0;
    }
    return e->mask + 1 - used;
}

static void wipe(void *memory, size_t bytes)
{
    memset(memory, 0, bytes);
    __asm__ volatile("" : : "r"(memory) : "memory"); /* a store that the compiler must not leave out */
}

/* Bytes of the slot that hold something, of a header that was copied and judged. */
static uint32_t filled(const struct ab_quic_command *head)
{
    return (uint32_t)sizeof(*head) + head->length;
}

bool ab_quic_ring_take(struct ab_quic_ring_end *e, struct ab_quic_command *head, uint8_t **body)
{
    uint8_t *slot;

    if (!e->ring || e->broken)
        return false;
    if (e->seen == e->position) {
        /* Acquire: the slot is whole that the producer has counted. */
        e->seen = __atomic_load_n(&e->ring->head, __ATOMIC_ACQUIRE);
        if (e->seen == e->position)
            return false;
        if (ab_unlikely(e->seen - e->position > e->mask + 1)) {
            e->broken = true;
            return false;
        }
    }
    slot = e->slots + (e->position & e->mask) * e->slot_bytes;
    memcpy(head, slot, sizeof(*head));
    __asm__ volatile("" : : "r"(head) : "memory"); /* judged is the copy, not what lies there by then */
    if (ab_unlikely(head->length > e->slot_bytes - sizeof(*head))) {
        head->length = 0;
        head->kind = AB_QUIC_COMMAND_NONE;
    }
    memcpy(e->copy, slot + sizeof(*head), head->length);
    *body = e->copy;
    if (head->kind == AB_QUIC_COMMAND_ADOPT)
        wipe(slot, filled(head));
    e->position++;
    /* Release: the producer finds a slot that we have done with. */
    __atomic_store_n(&e->ring->tail, e->position, __ATOMIC_RELEASE);
    return true;
}

void ab_quic_ring_forget(struct ab_quic_ring_end *e, const struct ab_quic_command *head)
{
    wipe(e->copy, head->length);
}

bool ab_quic_ring_put(struct ab_quic_ring_end *e, const struct ab_quic_event *head, const void *body)
{
    uint8_t *slot;

    if (head->length > e->slot_bytes - sizeof(*head) || ab_quic_ring_room(e, 1) == 0)
        return false;
    slot = e->slots + (e->position & e->mask) * e->slot_bytes;
    memcpy(slot, head, sizeof(*head));
    if (head->length)
        memcpy(slot + sizeof(*head), body, head->length);
    e->position++;
    /* Release: publishes the whole slot to the consumer. */
    __atomic_store_n(&e->ring->head, e->position, __ATOMIC_RELEASE);
    return true;
}

/* Who goes to sleep and who puts something in each write one word and then read the other's: with a full fence between
 * the two at least one of them sees what the other wrote. The producer in Python (abi/rings.py) has no fence; between
 * its two accesses lies more than a store buffer holds, and no sleep is long. */
bool ab_quic_ring_doze(struct ab_quic_ring_end *e, bool asleep)
{
    if (!e->ring || e->broken)
        return true;
    __atomic_store_n(&e->ring->asleep, asleep, __ATOMIC_SEQ_CST);
    if (!asleep || __atomic_load_n(&e->ring->head, __ATOMIC_SEQ_CST) == e->position)
        return true;
    __atomic_store_n(&e->ring->asleep, 0, __ATOMIC_RELAXED);
    return false;
}

bool ab_quic_ring_wakes(struct ab_quic_ring_end *e)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ab_likely(!__atomic_load_n(&e->ring->asleep, __ATOMIC_RELAXED)))
        return false;
    __atomic_store_n(&e->ring->asleep, 0, __ATOMIC_RELAXED);
    return true;
}
