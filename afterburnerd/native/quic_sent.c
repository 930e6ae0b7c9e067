#include <string.h>

#include "quic_sent.h"

uint64_t ab_quic_blocks_bytes(uint32_t total)
{
    return (uint64_t)total * (AB_QUIC_BLOCK * sizeof(struct ab_quic_sent_packet) + sizeof(uint16_t));
}

void ab_quic_blocks_init(struct ab_quic_blocks *b, void *memory, uint32_t total)
{
    b->memory = memory;
    b->free = (uint16_t *)(b->memory + (uint64_t)total * AB_QUIC_BLOCK);
    b->total = total;
    b->used = 0;
    for (uint32_t i = 0; i < total; i++)
        b->free[i] = (uint16_t)(total - 1 - i);
}

void ab_quic_sent_init(struct ab_quic_sent *s, uint64_t next)
{
    memset(s, 0, sizeof(*s));
    s->next = s->oldest = s->low = next;
    s->base = s->end = next / AB_QUIC_BLOCK * AB_QUIC_BLOCK;
    s->largest_acked = UINT64_MAX;
}

bool ab_quic_sent_grow(struct ab_quic_blocks *b, struct ab_quic_sent *s)
{
    while (s->next + 2 > s->end) {
        uint16_t block;

        if (b->used == b->total || s->end - s->base >= (uint64_t)AB_QUIC_BLOCK * AB_QUIC_SENT_BLOCKS)
            return false;
        block = b->free[b->total - 1 - b->used++];
        s->blocks[(s->end / AB_QUIC_BLOCK) % AB_QUIC_SENT_BLOCKS] = block;
        memset(&b->memory[(uint64_t)block * AB_QUIC_BLOCK], 0, AB_QUIC_BLOCK * sizeof(struct ab_quic_sent_packet));
        s->end += AB_QUIC_BLOCK;
    }
    return true;
}

void ab_quic_sent_skip(struct ab_quic_blocks *b, struct ab_quic_sent *s)
{
    struct ab_quic_sent_packet *p = ab_quic_sent_at(b, s, s->next);

    p->state = AB_QUIC_SENT_NONE;
    p->chain = AB_QUIC_NIL;
    p->jump = s->next++;
}

void ab_quic_sent_trim(struct ab_quic_blocks *b, struct ab_quic_sent *s, uint64_t lost_before)
{
    while (s->low < s->next && ab_quic_sent_at(b, s, s->low)->state != AB_QUIC_SENT_OUTSTANDING)
        s->low++;
    while (s->oldest < s->low) {
        const struct ab_quic_sent_packet *p = ab_quic_sent_at(b, s, s->oldest);

        if (p->state == AB_QUIC_SENT_LOST && p->sent_ns >= lost_before &&
            s->next - s->oldest < AB_QUIC_BLOCK * (AB_QUIC_SENT_BLOCKS / 2))
            break;
        s->oldest++;
    }
    while (s->base + AB_QUIC_BLOCK <= s->oldest && s->base < s->end) {
        b->free[b->total - 1 - --b->used] = s->blocks[(s->base / AB_QUIC_BLOCK) % AB_QUIC_SENT_BLOCKS];
        s->base += AB_QUIC_BLOCK;
    }
}

void ab_quic_sent_fini(struct ab_quic_blocks *b, struct ab_quic_sent *s)
{
    for (; s->base < s->end; s->base += AB_QUIC_BLOCK)
        b->free[b->total - 1 - --b->used] = s->blocks[(s->base / AB_QUIC_BLOCK) % AB_QUIC_SENT_BLOCKS];
}
