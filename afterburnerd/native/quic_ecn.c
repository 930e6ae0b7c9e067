#include "quic_ecn.h"

void ab_quic_ecn_init(struct ab_quic_ecn *e, bool enabled)
{
    *e = (struct ab_quic_ecn){.state = enabled ? AB_QUIC_ECN_TESTING : AB_QUIC_ECN_DISABLED};
}

void ab_quic_ecn_new_path(struct ab_quic_ecn *e)
{
    if (e->state == AB_QUIC_ECN_DISABLED)
        return;
    e->state = AB_QUIC_ECN_TESTING;
    e->until_ns = 0;
    e->path_sent = 0;
    e->path_lost = 0;
}

/* judge: all that were marked to test the path are lost: it drops them (RFC 9000 A.4). */
static void judge(struct ab_quic_ecn *e)
{
    if (e->state == AB_QUIC_ECN_UNKNOWN && e->path_lost >= e->path_sent)
        e->state = AB_QUIC_ECN_FAILED;
}

uint8_t ab_quic_ecn_testing(struct ab_quic_ecn *e, uint64_t pto_ns, uint64_t now)
{
    if (e->path_sent == 0)
        e->until_ns = now + 3 * pto_ns;
    if (e->path_sent < AB_QUIC_ECN_TESTING_PACKETS && now < e->until_ns) {
        e->sent++;
        e->path_sent++;
        return AB_QUIC_ECN_ECT0;
    }
    e->state = AB_QUIC_ECN_UNKNOWN;
    judge(e);
    return AB_QUIC_ECN_NOT_ECT;
}

bool ab_quic_ecn_acked(struct ab_quic_ecn *e, const struct ab_quic_frame *ack, uint64_t marked)
{
    bool congested;

    if (e->state == AB_QUIC_ECN_DISABLED || e->state == AB_QUIC_ECN_FAILED)
        return false;
    /* RFC 9000 13.4.2.1, in its order. */
    if (ack->type != AB_QUIC_FRAME_ACK_ECN) {
        if (marked)
            e->state = AB_QUIC_ECN_FAILED; /* not reported: the peer cannot, or something cleared the marks */
        return false;
    }
    if (ack->ack.ect0 < e->ect0 || ack->ack.ce < e->ce ||
        (ack->ack.ect0 - e->ect0) + (ack->ack.ce - e->ce) < marked || /* marks were cleared on the way */
        ack->ack.ect0 > e->sent || ack->ack.ect1 > 0) {               /* marks that we did not set */
        e->state = AB_QUIC_ECN_FAILED;
        return false;
    }
    congested = ack->ack.ce > e->ce;
    e->ect0 = ack->ack.ect0;
    e->ce = ack->ack.ce;
    if (marked)
        e->state = AB_QUIC_ECN_CAPABLE;
    return congested && e->state == AB_QUIC_ECN_CAPABLE;
}

void ab_quic_ecn_lost(struct ab_quic_ecn *e, uint64_t marked)
{
    if (e->state != AB_QUIC_ECN_TESTING && e->state != AB_QUIC_ECN_UNKNOWN)
        return;
    e->path_lost += marked;
    judge(e);
}
