#include "quic_ack.h"

void ab_quic_ack_init(struct ab_quic_ack *a, uint32_t threshold, uint64_t max_delay_ns, uint8_t exponent)
{
    memset(a, 0, sizeof(*a));
    a->largest_eliciting = AB_QUIC_ACK_NONE;
    a->deadline_ns = AB_QUIC_ACK_NONE;
    a->threshold = threshold ? threshold : 1;
    a->max_delay_ns = max_delay_ns;
    a->exponent = exponent;
}

void ab_quic_ack_thin(struct ab_quic_ack *a, uint32_t gather, uint64_t gather_ns)
{
    a->gather = gather;
    a->gather_ns = gather > a->threshold ? AB_MIN(gather_ns, a->max_delay_ns) : 0;
}

/* at_or_above: index of the lowest range whose last is at or above `pn`; a->count where there is none. Newest first,
 * since what comes late mostly comes a little late. */
static uint32_t at_or_above(const struct ab_quic_ack *a, uint64_t pn)
{
    uint32_t i = a->count;

    while (i > 0 && a->ranges[i - 1].last >= pn)
        i--;
    return i;
}

/* keepable: whether `pn`, which is in no range and below ranges[i], can be taken down. Not where it would be the oldest
 * of too many ranges: then it is refused as what is below the floor is, since taken it would be forgotten at once. */
static bool keepable(const struct ab_quic_ack *a, uint32_t i, uint64_t pn)
{
    return i > 0 || a->count < AB_QUIC_ACK_RANGES || pn + 1 == a->ranges[0].first;
}

bool ab_quic_ack_seen_below(const struct ab_quic_ack *a, uint64_t pn)
{
    uint32_t i;

    if (pn < a->floor)
        return true;
    i = at_or_above(a, pn);
    if (i < a->count && a->ranges[i].first <= pn)
        return true;
    return !keepable(a, i, pn);
}

static void drop_lowest(struct ab_quic_ack *a)
{
    a->floor = a->ranges[0].last + 1;
    memmove(a->ranges, a->ranges + 1, (size_t)--a->count * sizeof(a->ranges[0]));
}

/* put: takes down `pn`, which is keepable; `i` is the lowest range above it. */
static void put(struct ab_quic_ack *a, uint32_t i, uint64_t pn)
{
    bool below = i > 0 && a->ranges[i - 1].last + 1 == pn;
    bool above = i < a->count && a->ranges[i].first == pn + 1;

    if (below && above) {
        a->ranges[i - 1].last = a->ranges[i].last;
        memmove(a->ranges + i, a->ranges + i + 1, (size_t)(--a->count - i) * sizeof(a->ranges[0]));
    } else if (below) {
        a->ranges[i - 1].last = pn;
    } else if (above) {
        a->ranges[i].first = pn;
    } else {
        if (a->count == AB_QUIC_ACK_RANGES) {
            drop_lowest(a);
            i--;
        }
        memmove(a->ranges + i + 1, a->ranges + i, (size_t)(a->count++ - i) * sizeof(a->ranges[0]));
        a->ranges[i] = (struct ab_quic_ack_range){pn, pn};
    }
}

static void count_mark(struct ab_quic_ack *a, uint8_t ecn)
{
    a->ect0 += ecn == AB_QUIC_ECN_ECT0;
    a->ect1 += ecn == AB_QUIC_ECN_ECT1;
    a->ce += ecn == AB_QUIC_ECN_CE;
}

/* elicits: an ack-eliciting packet was taken down. */
static void elicits(struct ab_quic_ack *a, uint64_t pn, uint8_t ecn, uint64_t now)
{
    /* What is expected after the largest ack-eliciting one (none: UINT64_MAX + 1 is 0); below the floor nothing is. */
    uint64_t next = AB_MAX(a->largest_eliciting + 1, a->floor);
    bool reordered = pn < next;
    bool missing = a->ranges[at_or_above(a, pn)].first > next;

    /* RFC 9000 13.2.1: at once for a packet that is reordered, that leaves a hole behind, or that carries CE. */
    ab_quic_ack_count(a, now);
    if (reordered || missing || ecn == AB_QUIC_ECN_CE)
        a->now = true;
    if (!reordered)
        a->largest_eliciting = pn;
}

bool ab_quic_ack_insert(struct ab_quic_ack *a, uint64_t pn, bool eliciting, uint8_t ecn, uint64_t now)
{
    bool top = a->count == 0 || pn > a->ranges[a->count - 1].last;
    uint32_t i;

    if (a->count == 0) {
        /* A connection that was handed over begins somewhere: what is below its first packet may still come. */
        a->ranges[a->count++] = (struct ab_quic_ack_range){pn, pn};
    } else {
        if (pn < a->floor)
            return false;
        i = at_or_above(a, pn);
        if ((i < a->count && a->ranges[i].first <= pn) || !keepable(a, i, pn))
            return false;
        put(a, i, pn);
    }
    if (top)
        a->largest_ns = now;
    count_mark(a, ecn);
    if (eliciting)
        elicits(a, pn, ecn, now);
    return true;
}

/* pair_bytes: what the range `at` and the gap above it take in an ACK. */
static uint32_t pair_bytes(const struct ab_quic_ack *a, uint32_t at)
{
    return ab_quic_varint_size(a->ranges[at + 1].first - a->ranges[at].last - 2) +
           ab_quic_varint_size(a->ranges[at].last - a->ranges[at].first);
}

uint64_t ab_quic_ack_write(struct ab_quic_ack *a, struct ab_quic_writer *w, uint64_t now)
{
    bool marks = a->ect0 | a->ect1 | a->ce;
    const struct ab_quic_ack_range *top;
    uint32_t room, lowest;
    uint64_t delay, pairs;
    uint8_t *p;

    if (a->count == 0)
        return AB_QUIC_ACK_NONE;
    top = &a->ranges[a->count - 1];
    delay = (now > a->largest_ns ? now - a->largest_ns : 0) / 1000 >> a->exponent;
    /* Type, largest, delay, count (one byte: at most 63 pairs), first range, and the counts at the end. */
    room = 1 + ab_quic_varint_size(top->last) + ab_quic_varint_size(delay) + 1 +
           ab_quic_varint_size(top->last - top->first);
    if (marks)
        room += ab_quic_varint_size(a->ect0) + ab_quic_varint_size(a->ect1) + ab_quic_varint_size(a->ce);
    if (room > ab_quic_writer_room(w))
        return AB_QUIC_ACK_NONE;
    lowest = a->count - 1u;
    while (lowest > 0 && room + pair_bytes(a, lowest - 1) <= ab_quic_writer_room(w))
        room += pair_bytes(a, --lowest);
    pairs = a->count - 1u - lowest;

    p = w->p;
    *p++ = marks ? 0x03 : 0x02;
    p = ab_quic_varint_put(p, top->last);
    p = ab_quic_varint_put(p, delay);
    p = ab_quic_varint_put(p, pairs);
    p = ab_quic_varint_put(p, top->last - top->first);
    for (uint32_t i = a->count - 1u; i-- > lowest;) {
        p = ab_quic_varint_put(p, a->ranges[i + 1].first - a->ranges[i].last - 2);
        p = ab_quic_varint_put(p, a->ranges[i].last - a->ranges[i].first);
    }
    if (marks) {
        p = ab_quic_varint_put(p, a->ect0);
        p = ab_quic_varint_put(p, a->ect1);
        p = ab_quic_varint_put(p, a->ce);
    }
    w->p = p;
    a->unacked = 0;
    a->now = false;
    a->deadline_ns = AB_QUIC_ACK_NONE;
    return top->last;
}

void ab_quic_ack_acked(struct ab_quic_ack *a, uint64_t largest)
{
    uint64_t cut;

    if (a->count == 0 || largest <= a->floor + AB_QUIC_ACK_REORDERING)
        return;
    /* The newest packet stays: the next one is measured by it. */
    cut = AB_MIN(largest - AB_QUIC_ACK_REORDERING, a->ranges[a->count - 1].last);
    while (a->ranges[0].last < cut) /* ends with the newest range at the latest */
        drop_lowest(a);
    a->floor = cut;
    a->ranges[0].first = AB_MAX(a->ranges[0].first, cut);
}
