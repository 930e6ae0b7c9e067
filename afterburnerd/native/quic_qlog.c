#include "quic_qlog.h"

#include <string.h>

static void put(struct ab_quic *q, struct ab_quic_conn *c, struct ab_quic_event *e, const void *body, uint64_t now)
{
    e->kind = AB_QUIC_EVENT_QLOG;
    e->conn = c->id;
    e->time_ns = now;
    if (ab_unlikely(c->qlog_missed)) {
        struct ab_quic_event missed = {.kind = AB_QUIC_EVENT_QLOG,
                                       .conn = c->id,
                                       .time_ns = now,
                                       .code = AB_QUIC_QLOG_MISSED,
                                       .number = c->qlog_missed};

        if (!q->sink.event(q->sink.ctx, &missed, NULL)) {
            c->qlog_missed++;
            return;
        }
        c->qlog_missed = 0;
    }
    if (!q->sink.event(q->sink.ctx, e, body))
        c->qlog_missed++;
}

/* Bytes of data that a frame carries; the frame without them is its head. */
static uint32_t data_of(const struct ab_quic_frame *f)
{
    switch (f->type) {
    case AB_QUIC_FRAME_PADDING:
        return f->padding.len - 1;
    case AB_QUIC_FRAME_CRYPTO:
        return f->crypto.len;
    case AB_QUIC_FRAME_NEW_TOKEN:
    case AB_QUIC_FRAME_DATAGRAM:
    case AB_QUIC_FRAME_DATAGRAM_LEN:
        return f->blob.len;
    default:
        return (f->type & ~7ull) == AB_QUIC_FRAME_STREAM ? f->stream.len : 0;
    }
}

void ab_quic_qlog_packet(struct ab_quic *q, struct ab_quic_conn *c, enum ab_quic_qlog what, uint64_t pn,
                         uint32_t generation, const uint8_t *payload, uint32_t len, uint32_t size, uint64_t now)
{
    uint8_t body[AB_QUIC_EVENT_BYTES - sizeof(struct ab_quic_event)], *p = body;
    struct ab_quic_reader r = {payload, payload + len};
    struct ab_quic_event e = {.code = what, .number = pn, .token = size, .by = generation & 1};
    struct ab_quic_frame f;

    while (r.p < r.end) {
        const uint8_t *start = r.p;
        struct ab_quic_qlog_frame head;

        /* As a client, which may read what either side sends. */
        if (ab_quic_frame_next(&r, false, &f))
            break;
        head.data = (uint16_t)data_of(&f);
        head.len = (uint16_t)((uint32_t)(r.p - start) - head.data);
        if (head.len > (size_t)(body + sizeof(body) - p) - AB_MIN(sizeof(head), (size_t)(body + sizeof(body) - p))) {
            e.is_app = 1; /* there were more */
            break;
        }
        memcpy(p, &head, sizeof(head));
        memcpy(p + sizeof(head), start, head.len);
        p += sizeof(head) + head.len;
    }
    e.length = (uint32_t)(p - body);
    put(q, c, &e, body, now);
}

void ab_quic_qlog_lost(struct ab_quic *q, struct ab_quic_conn *c, uint64_t pn, uint32_t size, bool by_time,
                       uint64_t now)
{
    struct ab_quic_event e = {.code = AB_QUIC_QLOG_LOST, .number = pn, .token = size, .by = by_time};

    put(q, c, &e, NULL, now);
}

void ab_quic_qlog_metrics(struct ab_quic *q, struct ab_quic_conn *c, uint64_t now)
{
    struct ab_quic_event e = {.code = AB_QUIC_QLOG_METRICS, .length = sizeof(struct ab_quic_qlog_metrics)};
    struct ab_quic_qlog_metrics m = {.srtt_ns = c->rtt.smoothed_ns,
                                     .rttvar_ns = c->rtt.var_ns,
                                     .min_rtt_ns = c->rtt.min_ns,
                                     .latest_rtt_ns = c->rtt.latest_ns,
                                     .cwnd = c->cc.window,
                                     .in_flight = c->cc.in_flight,
                                     .pto_count = c->pto_count};

    put(q, c, &e, &m, now);
}
