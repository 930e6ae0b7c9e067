#include "record.h"

int ab_record_init(struct ab_record_writer *w, void *memory, uint64_t bytes, struct ab_error *err)
{
    struct ab_record_ring *ring = memory, said;

    memset(w, 0, sizeof(*w));
    if (bytes < sizeof(said) || (uintptr_t)memory % AB_CACHELINE)
        return ab_fail(err, AB_ELAYOUT, "record ring: %llu bytes of shared memory at %p are too few or not aligned",
                       (unsigned long long)bytes, memory);
    /* Copied once, then judged: whoever else can write it shall not change it in between. */
    memcpy(&said, ring, sizeof(said));
    __asm__ volatile("" : : "r"(&said) : "memory"); /* nor the compiler read it again */
    if (said.magic != AB_RECORD_MAGIC || said.version != AB_VERSION)
        return ab_fail(err, AB_ELAYOUT, "record ring: no ring of layout version %d in %llu bytes of shared memory",
                       AB_VERSION, (unsigned long long)bytes);
    if (said.slots == 0 || said.slots & (said.slots - 1) || said.slot_bytes % AB_CACHELINE ||
        said.slot_bytes < sizeof(struct ab_record) + AB_CACHELINE || said.slot_bytes > 1u << 20 ||
        said.slots > (bytes - sizeof(said)) / said.slot_bytes)
        return ab_fail(err, AB_ELAYOUT, "record ring: %llu slots of %llu bytes do not fit %llu bytes",
                       (unsigned long long)said.slots, (unsigned long long)said.slot_bytes, (unsigned long long)bytes);
    w->ring = ring;
    w->slots = (uint8_t *)(ring + 1);
    w->mask = said.slots - 1;
    w->slot_bytes = (uint32_t)said.slot_bytes;
    w->room = w->slot_bytes - (uint32_t)sizeof(struct ab_record);
    /* Sequence numbers go on where a former writer stopped, so that readers see a gap-free count across a restart. A
     * record that it left half-written is overwritten by the next one: same slot, same sequence number. */
    w->head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    return 0;
}
