#include "record.h"

int ab_record_init(struct ab_record_writer *w, void *memory, uint64_t bytes, struct ab_error *err)
{
    struct ab_record_ring *ring = memory;

    memset(w, 0, sizeof(*w));
    if (bytes < sizeof(*ring) || ring->magic != AB_RECORD_MAGIC || ring->version != AB_VERSION)
        return ab_fail(err, AB_ELAYOUT, "record ring: no ring of layout version %d in %llu bytes of shared memory",
                       AB_VERSION, (unsigned long long)bytes);
    if (ring->slots == 0 || ring->slots & (ring->slots - 1) || ring->slot_bytes % AB_CACHELINE ||
        ring->slot_bytes < sizeof(struct ab_record) + AB_CACHELINE || ring->slot_bytes > 1u << 20 ||
        ring->slots > (bytes - sizeof(*ring)) / ring->slot_bytes)
        return ab_fail(err, AB_ELAYOUT, "record ring: %llu slots of %llu bytes do not fit %llu bytes",
                       (unsigned long long)ring->slots, (unsigned long long)ring->slot_bytes,
                       (unsigned long long)bytes);
    w->ring = ring;
    w->slots = (uint8_t *)(ring + 1);
    w->mask = ring->slots - 1;
    w->slot_bytes = (uint32_t)ring->slot_bytes;
    w->room = w->slot_bytes - (uint32_t)sizeof(struct ab_record);
    /* Sequence numbers go on where a former writer stopped, so that readers see a gap-free count across a restart. A
     * record that it left half-written is overwritten by the next one: same slot, same sequence number. */
    w->head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    return 0;
}
