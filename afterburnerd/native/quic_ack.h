/* What we have received and still have to acknowledge (RFC 9000 sections 13.2 and 19.3).
 *
 *   ranges[0]      ranges[1]           ranges[count - 1]
 *   [first, last]  [first, last]  ...  [first, last]         ascending, a hole between each two
 *   ^ floor: below it everything counts as seen              ^ the newest; an in-order packet is one `last++` here
 *
 * One struct of a fixed size answers three questions: was this packet here before (a replay must do nothing twice), is
 * an ACK due, and what does it say. The number of ranges is bounded; where a new one does not fit, the oldest goes and
 * `floor` rises above it, so that what is forgotten is refused instead of taken twice. What the peer knows that we know
 * (it acknowledged our ACK) is pruned the same way, but for the newest range.
 *
 * Only the application's packet number space is kept: the others never leave the supervisor. */
#ifndef AB_QUIC_ACK_H
#define AB_QUIC_ACK_H

#include "quic_varint.h"

/* Holes that we remember. A range is 16 bytes; at 32, a 1,200-byte datagram still has room for data beside a full ACK.
 */
#define AB_QUIC_ACK_RANGES 64

/* Packets that far below an acknowledged ACK's largest are kept apart a little longer, for one that was overtaken must
 * not be refused: a sender gives a packet up when 3 later ones were acknowledged (RFC 9002 6.1.1), some when more were.
 */
#define AB_QUIC_ACK_REORDERING 16

#define AB_QUIC_ACK_THRESHOLD 2 /* ack-eliciting packets that make an ACK due (RFC 9000 13.2.2) */

#define AB_QUIC_ACK_NONE UINT64_MAX /* no packet number; no deadline */

/* The ECN field of an IP header (RFC 3168). */
enum ab_quic_ecn_mark {
    AB_QUIC_ECN_NOT_ECT = 0,
    AB_QUIC_ECN_ECT1 = 1,
    AB_QUIC_ECN_ECT0 = 2,
    AB_QUIC_ECN_CE = 3,
};

struct ab_quic_ack_range {
    uint64_t first, last; /* packet numbers, both received */
};

struct ab_quic_ack {
    uint64_t floor;             /* packet numbers below are not taken any more */
    uint64_t largest_eliciting; /* largest ack-eliciting packet number, or AB_QUIC_ACK_NONE */
    uint64_t largest_ns;        /* when the largest packet number came; the ACK's delay counts from here */
    uint64_t deadline_ns;       /* when an ACK is due at the latest; AB_QUIC_ACK_NONE: nothing waits for one */
    uint64_t max_delay_ns;      /* our max_ack_delay */
    uint64_t ect0, ect1, ce;    /* packets that came with these marks */
    uint32_t unacked;           /* ack-eliciting packets since the last ACK was written */
    uint32_t threshold;         /* of them make an ACK due at once, or gather_ns later */
    uint32_t gather;            /* of them make an ACK due at once, however long the gathering may be */
    uint64_t gather_ns;         /* how long the ACK for `threshold` of them may wait for more; 0: not at all */
    uint16_t count;             /* ranges, at least 1 after the first packet */
    uint8_t exponent;           /* our ack_delay_exponent */
    bool now;                   /* an ACK is due at once */
    struct ab_quic_ack_range ranges[AB_QUIC_ACK_RANGES];
};

/* ab_quic_ack_init: nothing received. threshold: an ACK for every so many ack-eliciting packets, 2 by RFC 9000 13.2.2;
 * max_delay_ns and exponent: as our transport parameters say (at most 2^14 ms, 20). */
void ab_quic_ack_init(struct ab_quic_ack *a, uint32_t threshold, uint64_t max_delay_ns, uint8_t exponent);

/* ab_quic_ack_thin: from here on an ACK for `threshold` packets waits for up to `gather` of them, gather_ns at most.
 * Each ACK costs both ends about as much as a packet of data, and RFC 9000 13.2.2 leaves a receiver the choice where it
 * knows better: ours knows the round trip. What comes out of order or marked is acknowledged at once all the same. */
void ab_quic_ack_thin(struct ab_quic_ack *a, uint32_t gather, uint64_t gather_ns);

/* ab_quic_ack_insert: the general case of ab_quic_ack_add; false for a packet that was there before. */
bool ab_quic_ack_insert(struct ab_quic_ack *a, uint64_t pn, bool eliciting, uint8_t ecn, uint64_t now);

/* ab_quic_ack_largest: the largest packet number received, or AB_QUIC_ACK_NONE. */
static inline uint64_t ab_quic_ack_largest(const struct ab_quic_ack *a)
{
    return a->count ? a->ranges[a->count - 1].last : AB_QUIC_ACK_NONE;
}

/* ab_quic_ack_expected: what ab_quic_pn_decode wants. */
static inline uint64_t ab_quic_ack_expected(const struct ab_quic_ack *a)
{
    return ab_quic_ack_largest(a) + 1; /* UINT64_MAX + 1 is 0 */
}

/* ab_quic_ack_seen: whether `pn` was received before, or is so old that we can't tell. To be asked after the packet was
 * authenticated and before anything of it is used. */
bool ab_quic_ack_seen_below(const struct ab_quic_ack *a, uint64_t pn);

static inline bool ab_quic_ack_seen(const struct ab_quic_ack *a, uint64_t pn)
{
    return a->count && pn <= a->ranges[a->count - 1].last && ab_quic_ack_seen_below(a, pn);
}

/* ab_quic_ack_count: one more ack-eliciting packet. */
static inline void ab_quic_ack_count(struct ab_quic_ack *a, uint64_t now)
{
    if (++a->unacked >= a->threshold && (a->gather_ns == 0 || a->unacked >= a->gather))
        a->now = true;
    else if (a->unacked == a->threshold)
        a->deadline_ns = AB_MIN(a->deadline_ns, now + a->gather_ns); /* none is UINT64_MAX */
    else if (a->deadline_ns == AB_QUIC_ACK_NONE)
        a->deadline_ns = now + a->max_delay_ns;
}

/* ab_quic_ack_add: takes down a packet whose frames were processed: `ecn` is an enum ab_quic_ecn_mark. It decides when
 * an ACK is due (13.2.1): at once for what comes out of order or behind a hole and for a CE mark, for every
 * `threshold`th ack-eliciting packet (or as ab_quic_ack_thin says), else max_delay_ns after the first one. False: seen
 * before, nothing has changed. */
static inline bool ab_quic_ack_add(struct ab_quic_ack *a, uint64_t pn, bool eliciting, uint8_t ecn, uint64_t now)
{
    struct ab_quic_ack_range *top = &a->ranges[a->count ? a->count - 1 : 0];

    /* In order, and no hole since the largest ack-eliciting one. */
    if (ab_unlikely(!a->count || pn != top->last + 1 || ecn == AB_QUIC_ECN_CE ||
                    (eliciting && top->first > a->largest_eliciting + 1)))
        return ab_quic_ack_insert(a, pn, eliciting, ecn, now);
    top->last = pn;
    a->ect0 += ecn == AB_QUIC_ECN_ECT0;
    a->ect1 += ecn == AB_QUIC_ECN_ECT1;
    a->largest_ns = now;
    if (eliciting) {
        a->largest_eliciting = pn;
        ab_quic_ack_count(a, now);
    }
    return true;
}

/* ab_quic_ack_deadline: when an ACK has to be written at the latest: 0 at once, AB_QUIC_ACK_NONE never. */
static inline uint64_t ab_quic_ack_deadline(const struct ab_quic_ack *a)
{
    return a->now ? 0 : a->deadline_ns;
}

/* ab_quic_ack_pending: whether anything ack-eliciting waits for its ACK; a packet that is sent anyway should take it
 * along (13.2.1). */
static inline bool ab_quic_ack_pending(const struct ab_quic_ack *a)
{
    return a->unacked != 0;
}

/* ab_quic_ack_write: an ACK of what was received, newest ranges first, as many as fit (13.2.3), with ECN counts where
 * there are any. Returns the largest packet number that it acknowledges, to be kept with the packet that carries it;
 * the ACK counts as sent. AB_QUIC_ACK_NONE: no room for even one range, or nothing received; then nothing is written.
 */
uint64_t ab_quic_ack_write(struct ab_quic_ack *a, struct ab_quic_writer *w, uint64_t now);

/* ab_quic_ack_acked: the peer acknowledged a packet of ours with an ACK up to `largest`: it need not hear of what is
 * below again (13.2.4), but for the last few packets. */
void ab_quic_ack_acked(struct ab_quic_ack *a, uint64_t largest);

#endif
