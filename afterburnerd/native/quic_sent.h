/* Records of the packets that were sent: what each carried, and whether it was acknowledged (RFC 9002 sections 5 and
 * 6).
 *
 *   packet number   ... 63 | 64 ............ 127 | 128 ...
 *                    block |       block         |  block        64 records of 32 bytes each, from one pool
 *                          ^ oldest      ^ low          ^ next
 *
 * A record is found by its number alone: no list, no search. A connection owns one block while it is warm; blocks come
 * when numbers run into them, and go back when all that they hold is finished.
 *
 *   oldest   below it nothing is kept. Lost packets stay a while above it, so that one that was acknowledged after all
 *            can be told (spurious loss)
 *   low      below it nothing is outstanding: loss detection begins here
 *
 * An ACK repeats old ranges again and again. So that nobody walks them again, the last record of a finished run holds
 * where the run began (`jump`): work is proportional to what is newly acknowledged, whatever a peer sends. */
#ifndef AB_QUIC_SENT_H
#define AB_QUIC_SENT_H

#include "quic_slot.h"

#define AB_QUIC_BLOCK 64        /* records of a block */
#define AB_QUIC_SENT_BLOCKS 256 /* blocks that a connection can own: 16,384 packets under way, 24 MB of 1,472 bytes */
#define AB_QUIC_NO_BLOCK UINT16_MAX

enum ab_quic_sent_state {
    AB_QUIC_SENT_NONE,        /* no packet: left out on purpose, or never sent */
    AB_QUIC_SENT_OUTSTANDING, /* under way */
    AB_QUIC_SENT_ACKED,
    AB_QUIC_SENT_LOST, /* declared lost; what it carried was queued again */
};

#define AB_QUIC_SENT_ELICITING 1 /* demands an ACK */
#define AB_QUIC_SENT_IN_FLIGHT 2 /* counts against the congestion window */
#define AB_QUIC_SENT_PROBE 4     /* of the path's MTU */
#define AB_QUIC_SENT_ECT 8       /* was marked ECT(0) */

struct ab_quic_sent_packet {
    uint64_t sent_ns;
    union {
        uint64_t acks; /* outstanding: largest packet number of the ACK in it, plus 1; 0 none */
        uint64_t jump; /* finished: first number of the finished run that ends here */
    };
    uint32_t chain;   /* slots that it carries */
    uint32_t control; /* AB_QUIC_CTL_* that it carries: frames that are made from state */
    uint32_t path;    /* generation of the path that it went over */
    uint16_t size;    /* bytes of the datagram */
    uint8_t state;    /* enum ab_quic_sent_state */
    uint8_t flags;    /* AB_QUIC_SENT_* */
};

_Static_assert(sizeof(struct ab_quic_sent_packet) == 32, "two records a cache line");

/* The pool of blocks, all connections. */
struct ab_quic_blocks {
    struct ab_quic_sent_packet *memory;
    uint16_t *free; /* stack */
    uint32_t total, used;
};

/* One connection's records. */
struct ab_quic_sent {
    uint64_t next;          /* next packet number */
    uint64_t oldest;        /* see above */
    uint64_t low;           /* see above */
    uint64_t base;          /* first number that has a block: a multiple of 64, at most `oldest` */
    uint64_t end;           /* behind the last number that has a block */
    uint64_t largest_acked; /* UINT64_MAX: none */
    uint32_t outstanding;   /* ack-eliciting packets under way */
    uint16_t blocks[AB_QUIC_SENT_BLOCKS];
};

static inline struct ab_quic_sent_packet *ab_quic_sent_at(const struct ab_quic_blocks *b, const struct ab_quic_sent *s,
                                                          uint64_t pn)
{
    uint32_t block = s->blocks[(pn / AB_QUIC_BLOCK) % AB_QUIC_SENT_BLOCKS];

    return &b->memory[(uint64_t)block * AB_QUIC_BLOCK + pn % AB_QUIC_BLOCK];
}

uint64_t ab_quic_blocks_bytes(uint32_t total);
void ab_quic_blocks_init(struct ab_quic_blocks *b, void *memory, uint32_t total);

/* ab_quic_sent_init: the first packet will be `next`. */
void ab_quic_sent_init(struct ab_quic_sent *s, uint64_t next);

/* ab_quic_sent_room: whether the next packet, and one that is left out before it, can be recorded; takes a block from
 * the pool if need be. */
bool ab_quic_sent_grow(struct ab_quic_blocks *b, struct ab_quic_sent *s);
static inline bool ab_quic_sent_room(struct ab_quic_blocks *b, struct ab_quic_sent *s)
{
    return ab_likely(s->next + 2 <= s->end) || ab_quic_sent_grow(b, s);
}

/* ab_quic_sent_add: a record for the next packet number, which is `pn` then. There must be room. */
static inline struct ab_quic_sent_packet *ab_quic_sent_add(struct ab_quic_blocks *b, struct ab_quic_sent *s)
{
    return ab_quic_sent_at(b, s, s->next++);
}

/* ab_quic_sent_skip: the next packet number is never used. */
void ab_quic_sent_skip(struct ab_quic_blocks *b, struct ab_quic_sent *s);

/* ab_quic_sent_trim: lets `oldest` and `low` rise over what is finished, of lost packets what was sent before
 * `lost_before`, and gives blocks back. */
void ab_quic_sent_trim(struct ab_quic_blocks *b, struct ab_quic_sent *s, uint64_t lost_before);

/* ab_quic_sent_fini gives every block back; what they hold is the caller's to settle first. */
void ab_quic_sent_fini(struct ab_quic_blocks *b, struct ab_quic_sent *s);

#endif
