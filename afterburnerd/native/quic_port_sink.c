/* What the engine tells: events and fates to the supervisor's ring, data to the record ring, both to the lab's tap.
 *
 *   data, datagram, reset --> record ring (and tap)     lost where the ring is full, as all records; readers see a gap
 *   done                  --> event ring (and tap)      false where it is full: the engine tells it again
 *   event                 --> event ring                the same, but for QLOG, which keeps half of the ring free
 */
#include "quic_port_parts.h"

#define NO_RULE 0xffff /* ab_record.rule of what no capture rule asked for */

static bool on_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    struct ab_quic_port *p = ctx;

    /* What is only good to know must not be in the way of what has to be known. */
    if (ab_unlikely(e->kind == AB_QUIC_EVENT_QLOG) && !ab_quic_port_plenty(p))
        return false;
    if (!ab_quic_port_tell(p, e, body))
        return false;
    if (ab_unlikely(e->kind == AB_QUIC_EVENT_CLOSED && e->length >= sizeof(struct ab_quic_closed)))
        ab_quic_port_last_look(p, e->conn, body);
    return true;
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome,
                    uint64_t first_sent_ns)
{
    struct ab_quic_port *p = ctx;

    if (token && !ab_quic_port_tell(p,
                                    &(struct ab_quic_event){.conn = ab_quic_conn_id(c),
                                                            .time_ns = p->now,
                                                            .kind = AB_QUIC_EVENT_DONE,
                                                            .token = token,
                                                            .code = outcome,
                                                            .number = first_sent_ns},
                                    NULL))
        return false;
    p->outcomes[outcome]++;
    if (p->tap.done)
        p->tap.done(p->tap.ctx, c, token, outcome, first_sent_ns);
    return true;
}

/* One record; longer data than a slot holds comes in several. */
static void record(struct ab_quic_port *p, struct ab_quic_conn *c, enum ab_record_kind kind,
                   const struct ab_quic_data *what, const uint8_t *data, uint32_t len)
{
    struct ab_record_writer *writer = &p->worker->records;
    const struct ab_path *path = ab_quic_conn_path(c);
    struct ab_record *r = ab_record_begin(writer);

    _Static_assert(sizeof(r->tx) == sizeof(*what), "quic_data stands in place of tx");
    r->time_ns = p->now + p->worker->real_offset_ns;
    r->stamp_ns = 0;
    r->mono_ns = p->now;
    memcpy(r->src, path->remote, sizeof(r->src));
    memcpy(r->dst, path->local, sizeof(r->dst));
    r->sport = path->remote_port;
    r->dport = path->local_port;
    r->rule = NO_RULE;
    r->kind = (uint8_t)kind;
    r->reason = 0;
    r->queue = (uint16_t)p->slot;
    r->worker = p->worker->index;
    memcpy(&r->tx, what, sizeof(*what));
    ab_record_end(writer, r, data, len);
    AB_STAT_ADD(&p->worker->stats->records, 1);
}

static void on_data(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t offset, const uint8_t *data,
                    uint32_t len, bool fin)
{
    struct ab_quic_port *p = ctx;
    struct ab_quic_data what = {.conn = ab_quic_conn_id(c), .stream = stream, .offset = offset};
    uint32_t room = p->worker->records.room;

    if (p->tap.data)
        p->tap.data(p->tap.ctx, c, stream, offset, data, len, fin);
    if (!p->worker->records.ring)
        return;
    for (; len > room; data += room, len -= room, what.offset += room)
        record(p, c, AB_RECORD_STREAM, &what, data, room);
    what.fin = fin;
    record(p, c, AB_RECORD_STREAM, &what, data, len);
}

static void on_reset(void *ctx, struct ab_quic_conn *c, uint64_t stream, uint64_t code, uint64_t final_size)
{
    struct ab_quic_port *p = ctx;
    struct ab_quic_data what = {.conn = ab_quic_conn_id(c), .stream = stream, .offset = code, .reset = 1};

    (void)final_size;
    if (p->worker->records.ring)
        record(p, c, AB_RECORD_STREAM, &what, NULL, 0);
}

static void on_datagram(void *ctx, struct ab_quic_conn *c, const uint8_t *data, uint32_t len)
{
    struct ab_quic_port *p = ctx;
    struct ab_quic_data what = {.conn = ab_quic_conn_id(c)};

    if (p->worker->records.ring)
        record(p, c, AB_RECORD_QUIC_DATAGRAM, &what, data, len);
}

const struct ab_quic_sink ab_quic_port_sink = {
    .data = on_data,
    .reset = on_reset,
    .datagram = on_datagram,
    .done = on_done,
    .event = on_event,
};
