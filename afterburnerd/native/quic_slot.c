#include <string.h>

#include "quic_slot.h"

/* A slot's memory: its head and data, and one cache line more where the sum would be a multiple of 1 KiB, so that the
 * heads of neighbours do not fight for one set of the cache. */
static uint64_t stride_of(uint32_t room)
{
    uint64_t stride = sizeof(struct ab_quic_slot) + ((uint64_t)room + AB_CACHELINE - 1) / AB_CACHELINE * AB_CACHELINE;

    return stride % 1024 ? stride : stride + AB_CACHELINE;
}

uint64_t ab_quic_slots_bytes(uint32_t total, uint32_t room)
{
    return total * stride_of(room);
}

void ab_quic_slots_init(struct ab_quic_slots *s, void *memory, uint32_t total, uint32_t room)
{
    *s = (struct ab_quic_slots){
        .memory = memory, .stride = stride_of(room), .room = room, .total = total, .free = AB_QUIC_NIL};
}

bool ab_quic_slot_split(struct ab_quic_slots *s, struct ab_quic_queue *queue, uint32_t index, uint32_t keep)
{
    uint32_t rest_index = ab_quic_slot_alloc(s);
    struct ab_quic_slot *slot, *rest;

    if (rest_index == AB_QUIC_NIL)
        return false;
    slot = ab_quic_slot_at(s, index);
    rest = ab_quic_slot_at(s, rest_index);
    *rest = *slot; /* its link too: it stands right behind */
    rest->offset += keep;
    rest->len = (uint16_t)(slot->len - keep);
    memcpy(ab_quic_slot_data(rest), ab_quic_slot_data(slot) + keep, rest->len);
    slot->len = (uint16_t)keep;
    slot->flags &= (uint8_t) ~(AB_QUIC_SLOT_FIN | AB_QUIC_SLOT_LAST);
    slot->next = rest_index;
    if (queue->tail == index)
        queue->tail = rest_index;
    queue->count++;
    ab_quic_slot_at(s, slot->head)->parts++;
    return true;
}
