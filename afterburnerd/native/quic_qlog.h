/* Events for a log of what a connection does (qlog), only while ab_quic_trace has bit 0 set for it: else each place
 * pays for one bit that is looked at. What goes up is packets with the heads of their frames, without the data in them.
 *
 * Best effort: events that find no room are counted, and MISSED tells of them when there is room again. */
#ifndef AB_QUIC_QLOG_H
#define AB_QUIC_QLOG_H

#include "quic_conn.h"

static inline bool ab_quic_qlog_on(const struct ab_quic_conn *c)
{
    return ab_unlikely(c->trace & 1);
}

/* ab_quic_qlog_packet: `payload` is plaintext; `size` bytes of UDP payload. */
void ab_quic_qlog_packet(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_qlog what, uint64_t pn,
                         uint32_t generation, const uint8_t *payload, uint32_t len, uint32_t size, uint64_t now);
/* ab_quic_qlog_lost: by the reordering threshold, or by the time threshold. */
void ab_quic_qlog_lost(struct ab_quic *q, struct ab_quic_conn *c, uint64_t pn, uint32_t size, bool by_time,
                       uint64_t now);
void ab_quic_qlog_metrics(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now);

#endif
