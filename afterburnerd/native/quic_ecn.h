/* Whether our packets may ask for congestion marks: ECT(0), validated (RFC 9000 section 13.4.2 and appendix A.4).
 *
 *   TESTING --10 marked packets or 3 PTO--> UNKNOWN --a marked one acknowledged with right counts--> CAPABLE
 *      |                                       |                                                       |
 *      +------------ counts that are wrong, or all marked packets lost -> FAILED <----------------------+
 *
 * A path that drops marked packets or a peer that does not report them must not hurt, so only what was validated goes
 * on being marked. Many peers send no counts at all; then marking stops after the first ACK. */
#ifndef AB_QUIC_ECN_H
#define AB_QUIC_ECN_H

#include "quic_ack.h"
#include "quic_frame.h"

#define AB_QUIC_ECN_TESTING_PACKETS 10 /* RFC 9000 A.4 */

enum ab_quic_ecn_state {
    AB_QUIC_ECN_DISABLED, /* the backend cannot mark, or must not */
    AB_QUIC_ECN_TESTING,
    AB_QUIC_ECN_UNKNOWN,
    AB_QUIC_ECN_CAPABLE,
    AB_QUIC_ECN_FAILED,
};

struct ab_quic_ecn {
    uint64_t sent;      /* packets sent with ECT(0), on all paths: the peer's counts go on when the path changes */
    uint64_t ect0, ce;  /* the peer's counts as last accepted */
    uint64_t until_ns;  /* TESTING ends then; 0: nothing was marked on this path yet */
    uint64_t path_sent; /* packets marked on this path while testing */
    uint64_t path_lost; /* of them */
    uint8_t state;      /* enum ab_quic_ecn_state */
};

/* ab_quic_ecn_init: for a connection. ab_quic_ecn_new_path: tests anew after a change of path; counts go on. */
void ab_quic_ecn_init(struct ab_quic_ecn *e, bool enabled);
void ab_quic_ecn_new_path(struct ab_quic_ecn *e);

/* ab_quic_ecn_testing: ab_quic_ecn_mark while testing. */
uint8_t ab_quic_ecn_testing(struct ab_quic_ecn *e, uint64_t pto_ns, uint64_t now);

/* ab_quic_ecn_mark: the mark for a packet that is about to be sent, which counts it; keep with the packet whether it
 * was marked. pto_ns: ab_quic_rtt_pto. */
static inline uint8_t ab_quic_ecn_mark(struct ab_quic_ecn *e, uint64_t pto_ns, uint64_t now)
{
    if (ab_likely(e->state == AB_QUIC_ECN_CAPABLE)) {
        e->sent++;
        return AB_QUIC_ECN_ECT0;
    }
    return e->state == AB_QUIC_ECN_TESTING ? ab_quic_ecn_testing(e, pto_ns, now) : AB_QUIC_ECN_NOT_ECT;
}

/* ab_quic_ecn_acked: an ACK that raises the largest acknowledged packet number (others prove nothing, 13.4.2.1), and
 * newly acknowledges `marked` packets that were sent with ECT(0). True: the count of CE grew and is to be believed:
 * congestion. */
bool ab_quic_ecn_acked(struct ab_quic_ecn *e, const struct ab_quic_frame *ack, uint64_t marked);

/* ab_quic_ecn_lost: `marked` packets sent with ECT(0) were lost. */
void ab_quic_ecn_lost(struct ab_quic_ecn *e, uint64_t marked);

#endif
