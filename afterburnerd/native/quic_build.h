/* One packet being written: header, frames, and what will be remembered of it. */
#ifndef AB_QUIC_BUILD_H
#define AB_QUIC_BUILD_H

#include "quic_conn.h"

struct ab_quic_builder {
    struct ab_quic *q;
    struct ab_quic_conn *conn;
    struct ab_quic_path *path;
    struct ab_quic_out *out;
    uint8_t *start;   /* first byte behind the header */
    uint8_t *payload; /* from here on nothing is written yet: an empty packet as far as cutting is concerned */
    uint8_t *p, *end; /* where the next frame goes; behind the last byte that may be written */
    uint64_t pn;
    uint64_t acks;              /* largest packet number acknowledged in it, plus 1; 0 no ACK */
    uint32_t chain, chain_tail; /* slots in it */
    uint32_t control;           /* AB_QUIC_CTL_* in it */
    uint32_t transactions;      /* frames of transactions in it, without what was lost before */
    uint16_t header_len, number_off;
    uint8_t flags; /* AB_QUIC_SENT_* */
    bool eliciting;
    uint8_t stalled; /* enum ab_quic_blocked: what data waits for that the peer has to give */
};

static inline uint32_t ab_quic_builder_room(const struct ab_quic_builder *b)
{
    return (uint32_t)(b->end - b->p);
}

static inline bool ab_quic_builder_empty(const struct ab_quic_builder *b)
{
    return b->p == b->payload;
}

/* ab_quic_builder_most: the room that a packet of this size has for frames when nothing is in it, no ACK either. */
static inline uint32_t ab_quic_builder_most(const struct ab_quic_builder *b)
{
    return (uint32_t)(b->end - b->start);
}

static inline bool ab_quic_builder_byte(struct ab_quic_builder *b, uint8_t byte)
{
    if (b->p >= b->end)
        return false;
    *b->p++ = byte;
    return true;
}

/* ab_quic_builder_begin writes the header of a packet of at most `size` bytes. False: not now, for lack of a record, of
 * room for an address that is not validated, or because the connection had to be closed. */
bool ab_quic_builder_begin(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_path *path,
                           struct ab_quic_out *out, uint32_t size, struct ab_quic_builder *b, uint64_t now);

/* ab_quic_builder_finish: the packet is whole; it counts as sent and will be sealed with its batch. */
void ab_quic_builder_finish(struct ab_quic_builder *b, uint64_t now);

/* ab_quic_build_path: PATH_CHALLENGE and PATH_RESPONSE, alone, expanded (RFC 9000 8.2.1, 8.2.2). */
bool ab_quic_build_path(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_path *path, struct ab_quic_out *out,
                        uint64_t now);

/* ab_quic_build_close: CONNECTION_CLOSE. */
bool ab_quic_build_close(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_out *out, uint64_t now);

#endif
