#include "quic_port.h"

#include <stdlib.h>
#include <string.h>

#define NO_RULE 0xffff   /* ab_record.rule of what no capture rule asked for */
#define STRAY_SHARE 2    /* strays may fill half of the event ring */
#define LONG_HEADER 0x80 /* RFC 9000 17.2 */
#define LEAST_MTU 1200   /* RFC 9000 14 */

/* --- what the engine tells -------------------------------------------------------------------------------------- */

static bool tell(struct ab_quic_port *p, const struct ab_quic_event *e, const void *body)
{
    if (ab_unlikely(!ab_quic_ring_put(&p->events, e, body)))
        return false;
    p->events_told++;
    return true;
}

/* What a connection has counted since it was looked at last goes into the sums. */
static void sum_up(struct ab_quic_port *p, struct ab_quic_port_seen *seen, const struct ab_quic_counts *counts)
{
    uint64_t *sum = (uint64_t *)&p->counts, *was = (uint64_t *)&seen->counts;
    const uint64_t *is = (const uint64_t *)counts;

    for (size_t i = 0; i < sizeof(*counts) / sizeof(*is); i++) {
        sum[i] += is[i] - was[i];
        was[i] = is[i];
    }
}

/* true: there was a connection. */
static bool look(struct ab_quic_port *p, uint32_t index, uint64_t now)
{
    struct ab_quic_port_seen *seen = &p->seen[index];
    struct ab_quic_conn *c = ab_quic_at(p->quic, index);

    if (!c) {
        if (seen->id) {
            ab_quic_rows_free(&p->rows, index, now);
            *seen = (struct ab_quic_port_seen){0};
        }
        return false;
    }
    if (seen->id != ab_quic_conn_id(c))
        *seen = (struct ab_quic_port_seen){.id = ab_quic_conn_id(c)};
    sum_up(p, seen, ab_quic_conn_counts(c));
    if (seen->shown_ns == 0 || now - seen->shown_ns >= AB_QUIC_PORT_ROW_NS) {
        ab_quic_rows_write(&p->rows, index, c, now);
        seen->shown_ns = now;
    }
    return true;
}

/* Round robin. A worker that sleeps comes by less often, and looks at more. */
static void look_around(struct ab_quic_port *p, uint64_t now)
{
    uint64_t shares = (now - p->looked_ns) / AB_QUIC_PORT_LOOK_NS;
    uint32_t places, looks;

    if (shares == 0)
        return;
    p->looked_ns = now;
    places = (uint32_t)AB_MIN(AB_MIN(shares, 8u) * AB_QUIC_PORT_PLACES, AB_QUIC_PORT_PLACES_MOST);
    looks = (uint32_t)AB_MIN(AB_MIN(shares, 8u) * AB_QUIC_PORT_LOOKS, AB_QUIC_PORT_LOOKS_MOST);
    for (places = AB_MIN(places, p->connections); places && looks; places--) {
        looks -= look(p, p->look_at, now);
        p->look_at = p->look_at + 1 < p->connections ? p->look_at + 1 : 0;
    }
    if (p->rows.head)
        __atomic_store_n(&p->rows.head->written_ns, now, __ATOMIC_RELAXED);
}

/* The last words of a connection: it may be gone before its turn comes to be looked at. */
static void last_look(struct ab_quic_port *p, uint64_t id, const struct ab_quic_closed *closed)
{
    struct ab_quic_port_seen none = {.id = id}, *seen = &none;
    struct ab_quic_conn *c = ab_quic_find(p->quic, id);

    if (c) {
        /* It stays in the table for a while (RFC 9000 10.2), and may be looked at again: not to be counted twice. */
        seen = &p->seen[ab_quic_conn_index(c)];
        if (seen->id != id)
            *seen = (struct ab_quic_port_seen){.id = id};
    }
    sum_up(p, seen, &closed->counts);
}

static bool on_event(void *ctx, const struct ab_quic_event *e, const void *body)
{
    struct ab_quic_port *p = ctx;

    /* What is only good to know must not be in the way of what has to be known. */
    if (ab_unlikely(e->kind == AB_QUIC_EVENT_QLOG) &&
        ab_quic_ring_room(&p->events) <= (p->events.mask + 1) / STRAY_SHARE)
        return false;
    if (!tell(p, e, body))
        return false;
    if (ab_unlikely(e->kind == AB_QUIC_EVENT_CLOSED && e->length >= sizeof(struct ab_quic_closed)))
        last_look(p, e->conn, body);
    return true;
}

static bool on_done(void *ctx, struct ab_quic_conn *c, uint64_t token, enum ab_quic_outcome outcome,
                    uint64_t first_sent_ns)
{
    struct ab_quic_port *p = ctx;

    if (token && !tell(p,
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

/* --- commands --------------------------------------------------------------------------------------------------- */

static void refuse(struct ab_quic_port *p, const struct ab_quic_command *command, int rc)
{
    (void)tell(p,
               &(struct ab_quic_event){.conn = command->conn,
                                       .time_ns = p->now,
                                       .kind = AB_QUIC_EVENT_REFUSED,
                                       .number = command->number,
                                       .code = (uint64_t)-rc,
                                       .token = command->token},
               NULL);
}

static struct ab_io *way_out(const struct ab_quic_port *p, const struct ab_path *path)
{
    struct ab_io *io = path->slot < AB_MAX_QUEUES ? p->worker->ios[path->slot] : NULL;
    enum ab_io_kind kind = path->io == 0 ? AB_IO_XSK : AB_IO_UDP;

    return io && io->kind == kind && (kind == AB_IO_XSK || io->udp.quic) ? io : NULL;
}

static bool path_ok(const struct ab_quic_port *p, const struct ab_path *path)
{
    return (path->family == 4 || path->family == 6) && path->mtu >= LEAST_MTU && path->remote_port && way_out(p, path);
}

static void adopt(struct ab_quic_port *p, const struct ab_quic_command *command, const uint8_t *body)
{
    const struct ab_quic_adopt *a = (const struct ab_quic_adopt *)body;
    enum ab_quic_refusal why = AB_QUIC_REFUSED_NONE;

    if (command->length != sizeof(*a))
        why = AB_QUIC_REFUSED_LENGTH;
    else if (!path_ok(p, &a->path))
        why = AB_QUIC_REFUSED_PATH;
    if (why) {
        p->refused_other++;
    } else {
        (void)ab_quic_adopt(p->quic, a, p->now, &why);
        p->refused_other += why != AB_QUIC_REFUSED_NONE && why != AB_QUIC_REFUSED_FULL;
    }
    (void)tell(p,
               &(struct ab_quic_event){.conn = command->conn,
                                       .time_ns = p->now,
                                       .kind = AB_QUIC_EVENT_ADOPTED,
                                       .number = command->number,
                                       .code = why},
               NULL);
}

/* A datagram that came elsewhere: struct ab_quic_inject and its bytes, `length` in all. False: it is none. */
static bool take_in(struct ab_quic_port *p, uint8_t *body, uint32_t length)
{
    const struct ab_quic_inject *from = (const struct ab_quic_inject *)body;
    struct ab_dgram d = {0};

    if (length < sizeof(*from) || from->len == 0 || from->len > length - sizeof(*from))
        return false;
    memcpy(d.src, from->remote, sizeof(d.src));
    memcpy(d.dst, from->local, sizeof(d.dst));
    d.sport = from->remote_port;
    d.dport = from->local_port;
    d.family = from->family;
    d.tos = from->tos;
    d.data = body + sizeof(*from);
    d.len = from->len;
    if (!(d.data[0] & LONG_HEADER))
        ab_quic_rx(p->quic, &d, NULL, 1, p->now);
    return true;
}

static void send_message(struct ab_quic_port *p, struct ab_quic_conn *c, const struct ab_quic_command *command,
                         const uint8_t *data, uint32_t len)
{
    struct ab_quic_msg m = {.how = (enum ab_quic_send)command->how,
                            .fin = command->flags & AB_QUIC_SEND_FIN,
                            .stream = command->stream,
                            .token = command->token,
                            .expires = command->code,
                            .data = data,
                            .len = len};
    int rc = ab_quic_send(p->quic, c, &m, p->now);

    if (rc) {
        refuse(p, command, rc);
        return;
    }
    if (m.how == AB_QUIC_SEND_BIDI_OPEN || m.how == AB_QUIC_SEND_UNI_OPEN)
        (void)tell(p,
                   &(struct ab_quic_event){.conn = command->conn,
                                           .time_ns = p->now,
                                           .kind = AB_QUIC_EVENT_STREAM,
                                           .token = command->token,
                                           .number = m.stream},
                   NULL);
}

/* Puts together what comes in several commands. One message at a time: one that another connection's interrupts is
 * given up, and the command that would have ended it refused. */
static void gather(struct ab_quic_port *p, struct ab_quic_conn *c, const struct ab_quic_command *command,
                   const uint8_t *body)
{
    bool more = command->flags & AB_QUIC_SEND_MORE;

    if (ab_likely(!more && p->message_conn == 0)) {
        send_message(p, c, command, body, command->length);
        return;
    }
    if (p->message_conn != command->conn) {
        p->message_conn = command->conn;
        p->message_len = 0;
    }
    if (command->length > AB_QUIC_PORT_MESSAGE - p->message_len) {
        p->message_conn = 0;
        refuse(p, command, AB_QUIC_ETOOLONG);
        return;
    }
    memcpy(p->message + p->message_len, body, command->length);
    p->message_len += command->length;
    if (!more) {
        p->message_conn = 0;
        send_message(p, c, command, p->message, p->message_len);
    }
}

static int on_connection(struct ab_quic_port *p, const struct ab_quic_command *command, struct ab_quic_conn *c,
                         uint8_t *body)
{
    uint32_t count = command->length / (uint32_t)sizeof(struct ab_quic_cid);
    const struct ab_path *path = (const struct ab_path *)body;
    bool app = command->flags & AB_QUIC_CLOSE_APP;

    switch ((enum ab_quic_command_kind)command->kind) {
    case AB_QUIC_COMMAND_STOCK:
        return ab_quic_stock(p->quic, c, (const struct ab_quic_cid *)body, count) == count ? 0 : AB_QUIC_EFULL;
    case AB_QUIC_COMMAND_SEND:
        gather(p, c, command, body);
        return 0;
    case AB_QUIC_COMMAND_CLOSE:
        ab_quic_close(p->quic, c, app, command->code, (const char *)body, command->length, p->now);
        return 0;
    case AB_QUIC_COMMAND_RESET_STREAM:
        return ab_quic_reset_stream(p->quic, c, command->stream, command->code);
    case AB_QUIC_COMMAND_STOP_SENDING:
        return ab_quic_stop_sending(p->quic, c, command->stream, command->code);
    case AB_QUIC_COMMAND_PATH:
        if (command->length != sizeof(*path) || !path_ok(p, path))
            return AB_EINVAL;
        return ab_quic_set_path(p->quic, c, path, p->now);
    case AB_QUIC_COMMAND_UPDATE_KEYS:
        return ab_quic_update_keys(p->quic, c, p->now);
    case AB_QUIC_COMMAND_PING:
        ab_quic_ping(p->quic, c);
        return 0;
    case AB_QUIC_COMMAND_TRACE:
        ab_quic_trace(p->quic, c, (uint32_t)command->code);
        return 0;
    case AB_QUIC_COMMAND_DROP:
        ab_quic_drop(p->quic, c, p->now);
        return 0;
    case AB_QUIC_COMMAND_CRYPTO:
        return ab_quic_send_crypto(p->quic, c, body, command->length);
    default:
        return AB_EINVAL;
    }
}

static void carry_out(struct ab_quic_port *p, const struct ab_quic_command *command, uint8_t *body)
{
    struct ab_quic_conn *c;
    int rc;

    switch (command->kind) {
    case AB_QUIC_COMMAND_ADOPT:
        adopt(p, command, body);
        return;
    case AB_QUIC_COMMAND_INJECT:
        if (!take_in(p, body, command->length))
            refuse(p, command, AB_QUIC_ETOOLONG);
        return;
    case AB_QUIC_COMMAND_CLOSE_ALL:
        ab_quic_close_all(p->quic, command->flags & AB_QUIC_CLOSE_APP, command->code, (const char *)body,
                          command->length, p->now);
        return;
    default:
        c = ab_quic_find(p->quic, command->conn);
        rc = c ? on_connection(p, command, c, body) : AB_QUIC_ECLOSED;
        if (rc)
            refuse(p, command, rc);
    }
}

/* What another worker has received for us. */
static uint32_t handed_over(struct ab_quic_port *p, struct ab_quic_ring_end *ring)
{
    struct ab_quic_command head; /* alike where a ring looks */
    uint32_t count = 0;
    uint8_t *body;

    for (; ab_quic_ring_ready(ring) && count < AB_QUIC_PORT_HANDED && ab_quic_ring_take(ring, &head, &body); count++)
        (void)take_in(p, body, head.length);
    p->handed_in += count;
    return count;
}

static uint32_t port_commands(void *ctx, uint64_t now)
{
    struct ab_quic_port *p = ctx;
    uint32_t done = 0;

    p->now = now;
    /* The room for one event first: each command may have an answer. */
    while (ab_quic_ring_ready(&p->commands) && done < AB_QUIC_PORT_COMMANDS && ab_quic_ring_room(&p->events) > 0) {
        struct ab_quic_command command;
        uint8_t *body;

        if (!ab_quic_ring_take(&p->commands, &command, &body))
            break;
        carry_out(p, &command, body);
        if (command.kind == AB_QUIC_COMMAND_ADOPT)
            ab_quic_ring_forget(&p->commands, &command);
        done++;
    }
    p->commands_done += done;
    for (uint32_t i = 0; i < p->from_count; i++)
        done += handed_over(p, p->from[i]);
    return done;
}

/* --- datagrams -------------------------------------------------------------------------------------------------- */

_Static_assert(offsetof(struct ab_quic_command, length) == offsetof(struct ab_quic_event, length) &&
                   offsetof(struct ab_quic_command, kind) == offsetof(struct ab_quic_event, kind),
               "rings between workers: one puts events, the other takes commands");

/* A datagram as the body of an event, or false where it is too long for one. */
static bool pack(struct ab_quic_port *p, const struct ab_dgram *d, struct ab_quic_event *e)
{
    struct ab_quic_inject *from = (struct ab_quic_inject *)p->passed_on;

    if (d->len == 0 || d->len > sizeof(p->passed_on) - sizeof(*from))
        return false;
    *from = (struct ab_quic_inject){
        .local_port = d->dport, .remote_port = d->sport, .family = d->family, .tos = d->tos, .len = (uint16_t)d->len};
    memcpy(from->local, d->dst, sizeof(from->local));
    memcpy(from->remote, d->src, sizeof(from->remote));
    memcpy(from + 1, d->data, d->len);
    *e = (struct ab_quic_event){
        .time_ns = p->now, .kind = AB_QUIC_EVENT_STRAY, .length = (uint32_t)sizeof(*from) + d->len};
    return true;
}

/* For the supervisor: a long header in a unit with short ones, a connection ID that we do not know. Best effort. */
static void stray(struct ab_quic_port *p, const struct ab_dgram *d)
{
    struct ab_quic_event e;

    if (ab_quic_ring_room(&p->events) > (p->events.mask + 1) / STRAY_SHARE && pack(p, d, &e) &&
        tell(p, &e, p->passed_on))
        p->strays++;
}

/* For another worker. Where its ring is full the packet is lost, as in a queue that overflows. */
static void hand_over(struct ab_quic_port *p, const struct ab_dgram *d)
{
    struct ab_quic_event e;

    if (!pack(p, d, &e))
        return;
    for (uint32_t i = 0; i < p->to_count; i++)
        p->handed_out += ab_quic_ring_put(p->to[i], &e, p->passed_on);
}

static void run(struct ab_quic_port *p, struct ab_dgram *d, uint32_t count, bool socket)
{
    ab_quic_rx(p->quic, d, p->mine, count, p->now);
    if (!socket && p->to_count == 0)
        return; /* XDP redirects only what is in `cids`: what the engine does not know it has just retired */
    for (uint32_t i = 0; i < count; i++) {
        if (ab_likely(p->mine[i]))
            continue;
        /* To a socket anything may come, so the supervisor looks at it first; it knows every connection's worker. */
        if (socket)
            stray(p, &d[i]);
        else
            hand_over(p, &d[i]);
    }
}

static void port_rx(void *ctx, uint32_t slot, struct ab_dgram *d, uint32_t count, uint64_t now)
{
    struct ab_quic_port *p = ctx;
    bool socket = p->worker->ios[slot]->kind == AB_IO_UDP;
    uint32_t first = 0;

    p->now = now;
    p->slot = slot;
    for (uint32_t i = 0; i < count; i++) {
        if (ab_likely(d[i].len && !(d[i].data[0] & LONG_HEADER)))
            continue;
        if (i > first)
            run(p, d + first, i - first, socket);
        first = i + 1;
        stray(p, &d[i]);
    }
    if (count > first)
        run(p, d + first, count - first, socket);
}

static void give_back(struct ab_quic_port *p)
{
    if (p->ready)
        ab_io_tx_cancel(p->worker->ios[p->lead], p->buffers, p->ready);
    p->ready = 0;
    p->lead = AB_MAX_QUEUES;
}

static bool can_send(const struct ab_io *io)
{
    return io && (io->kind == AB_IO_XSK || (io->kind == AB_IO_UDP && io->udp.quic));
}

/* Buffers for a whole batch, as far as there are any. */
static void stock_up(struct ab_quic_port *p)
{
    struct ab_worker *w = p->worker;
    uint32_t more;

    if (ab_unlikely(p->lead == AB_MAX_QUEUES)) {
        for (uint32_t i = 0; i < w->io_count && p->lead == AB_MAX_QUEUES; i++)
            if (can_send(w->ios[w->open[i]]))
                p->lead = w->open[i];
        if (p->lead == AB_MAX_QUEUES)
            return;
    }
    if (p->ready == AB_QUIC_PORT_BATCH)
        return;
    more = ab_io_tx_reserve(w->ios[p->lead], p->buffers + p->ready, AB_QUIC_PORT_BATCH - p->ready);
    for (; more; more--, p->ready++) {
        p->outs[p->ready].data = p->buffers[p->ready].data;
        p->outs[p->ready].room = p->buffers[p->ready].room;
    }
}

/* A packet whose path leads through another source than the one it was written for. */
static void send_elsewhere(struct ab_quic_port *p, const struct ab_quic_out *out, struct ab_io *io)
{
    struct ab_txbuf buffer;

    if (!io || ab_io_tx_reserve(io, &buffer, 1) == 0 || out->len > buffer.room) {
        p->send_drops++; /* the peer does not acknowledge it, so it is sent again */
        return;
    }
    memcpy(buffer.data, out->data, out->len);
    ab_io_tx_send(io, out->path, &buffer, out->len, out->ecn);
}

static uint32_t port_tx(void *ctx, uint64_t now)
{
    struct ab_quic_port *p = ctx;
    uint32_t sent, elsewhere = 0, kept = 0, tail, other = AB_MAX_QUEUES;
    struct ab_io *lead;

    p->now = now;
    stock_up(p);
    if (ab_unlikely(p->ready == 0))
        return 0; /* the kernel is behind */
    lead = p->worker->ios[p->lead];
    sent = ab_quic_tx(p->quic, p->outs, p->ready, now);
    for (uint32_t i = 0; i < sent; i++) {
        const struct ab_quic_out *out = &p->outs[i];
        struct ab_io *io = way_out(p, out->path);

        if (ab_likely(io == lead)) {
            ab_io_tx_send(io, out->path, &p->buffers[i], out->len, out->ecn);
            continue;
        }
        send_elsewhere(p, out, io);
        if (io)
            other = out->path->slot;
        elsewhere++;
        ab_io_tx_cancel(lead, &p->buffers[i], 1);
    }
    /* The places of what is gone are filled from the end. */
    tail = p->ready - sent;
    kept = AB_MIN(tail, sent);
    memcpy(p->buffers, p->buffers + p->ready - kept, kept * sizeof(p->buffers[0]));
    for (uint32_t i = 0; i < kept; i++) {
        p->outs[i].data = p->buffers[i].data;
        p->outs[i].room = p->buffers[i].room;
    }
    p->ready = tail;
    if (ab_unlikely(elsewhere * 2 > sent) && other != AB_MAX_QUEUES) {
        give_back(p);
        p->lead = other;
    }
    return sent;
}

static uint64_t port_deadline(void *ctx)
{
    struct ab_quic_port *p = ctx;

    return ab_quic_deadline(p->quic);
}

static void port_closing(void *ctx, uint32_t slot)
{
    struct ab_quic_port *p = ctx;

    if (p->lead == slot)
        give_back(p);
}

/* --- statistics -------------------------------------------------------------------------------------------------- */

/* Counters go on where the former process left them. */
#define COUNT(name, value) AB_STAT_SET(&s->name, p->base.name + (uint64_t)(value))

static void port_beat(void *ctx, uint64_t now)
{
    struct ab_quic_port *p = ctx;
    struct ab_stats_worker *s = p->worker->stats;
    struct ab_quic_totals t;

    look_around(p, now);
    ab_quic_totals(p->quic, &t);
    AB_STAT_SET(&s->quic_connections, t.connections);
    AB_STAT_SET(&s->quic_slots, t.slots);
    AB_STAT_SET(&s->quic_slots_used, t.slots_used);
    AB_STAT_SET(&s->quic_memory_bytes, t.memory_bytes);
    COUNT(quic_adopted, t.adopted);
    COUNT(quic_refused_full, t.refused_full);
    COUNT(quic_refused_other, p->refused_other);
    COUNT(quic_packets_sent, p->counts.packets_sent);
    COUNT(quic_packets_received, p->counts.packets_received);
    COUNT(quic_packets_lost, p->counts.packets_lost);
    COUNT(quic_packets_spurious, p->counts.packets_spurious);
    COUNT(quic_packets_duplicate, p->counts.packets_duplicate);
    COUNT(quic_aead_failures, p->counts.packets_undecryptable);
    COUNT(quic_unknown_cids, t.rx_unknown);
    COUNT(quic_malformed, t.rx_malformed);
    COUNT(quic_strays, p->strays);
    COUNT(quic_handovers_out, p->handed_out);
    COUNT(quic_handovers_in, p->handed_in);
    COUNT(quic_bytes_sent, p->counts.bytes_sent);
    COUNT(quic_bytes_received, p->counts.bytes_received);
    COUNT(quic_messages_sent, p->counts.messages_sent);
    COUNT(quic_messages_acked, p->outcomes[AB_QUIC_OUTCOME_ACKNOWLEDGED]);
    COUNT(quic_failed_closed, p->outcomes[AB_QUIC_OUTCOME_CLOSED]);
    COUNT(quic_failed_reset, p->outcomes[AB_QUIC_OUTCOME_RESET]);
    COUNT(quic_failed_stopped, p->outcomes[AB_QUIC_OUTCOME_STOPPED]);
    COUNT(quic_failed_lost, p->outcomes[AB_QUIC_OUTCOME_LOST]);
    COUNT(quic_failed_expired, p->outcomes[AB_QUIC_OUTCOME_EXPIRED]);
    COUNT(quic_retransmitted, p->counts.messages_resent);
    COUNT(quic_streams_received, p->counts.streams_received);
    COUNT(quic_stream_bytes_received, p->counts.stream_bytes_received);
    COUNT(quic_datagrams_received, p->counts.datagrams_received);
    COUNT(quic_ptos, p->counts.ptos);
    COUNT(quic_congestion, p->counts.congestion_events);
    COUNT(quic_key_updates, p->counts.key_updates);
    COUNT(quic_migrations, p->counts.migrations);
    COUNT(quic_blocked_credit_ns, p->counts.blocked_credit_ns);
    COUNT(quic_blocked_window_ns, p->counts.blocked_window_ns);
    COUNT(quic_pushed_back, t.pushed_back);
    COUNT(quic_commands, p->commands_done);
    COUNT(quic_events, p->events_told);
    COUNT(quic_send_drops, p->send_drops);
}

/* --- life -----------------------------------------------------------------------------------------------------------
 */

int ab_quic_port_new(struct ab_quic_port **port, struct ab_worker *w, const struct ab_quic_config *config,
                     void *commands, uint64_t command_bytes, void *events, uint64_t event_bytes, struct ab_error *err)
{
    struct ab_quic_port *p;
    struct ab_quic_sink sink = {
        .data = on_data, .reset = on_reset, .datagram = on_datagram, .done = on_done, .event = on_event};
    int rc;

    *port = NULL;
    if (w->guest.ctx)
        return ab_fail(err, AB_EINVAL, "this worker has a QUIC engine already");
    p = aligned_alloc(AB_CACHELINE, (sizeof(*p) + AB_CACHELINE - 1) & ~(size_t)(AB_CACHELINE - 1));
    if (!p)
        return ab_fail(err, AB_ENOMEM, "no memory for the QUIC port");
    memset(p, 0, sizeof(*p));
    p->worker = w;
    p->lead = AB_MAX_QUEUES;
    p->base = *w->stats;
    p->connections = config->connections ? config->connections : AB_QUIC_PORT_TABLE;
    p->message = calloc(1, AB_QUIC_PORT_MESSAGE);
    p->seen = calloc(p->connections, sizeof(*p->seen));
    if (!p->message || !p->seen) {
        rc = ab_fail(err, AB_ENOMEM, "no memory for the QUIC port");
        goto fail;
    }
    sink.ctx = p;
    if ((rc = ab_quic_ring_open(&p->commands, commands, command_bytes, AB_QUIC_COMMAND_BYTES, false, err)) ||
        (rc = ab_quic_ring_open(&p->events, events, event_bytes, AB_QUIC_EVENT_BYTES, true, err)) ||
        (rc = ab_quic_new(&p->quic, config, &sink, err)))
        goto fail;
    w->guest = (struct ab_guest){.ctx = p,
                                 .commands = port_commands,
                                 .rx = port_rx,
                                 .tx = port_tx,
                                 .deadline = port_deadline,
                                 .beat = port_beat,
                                 .closing = port_closing};
    *port = p;
    return 0;
fail:
    ab_quic_port_free(p);
    return rc;
}

int ab_quic_port_peer(struct ab_quic_port *p, void *memory, uint64_t bytes, bool outgoing, struct ab_error *err)
{
    uint32_t *count = outgoing ? &p->to_count : &p->from_count;
    struct ab_quic_ring_end **rings = outgoing ? p->to : p->from, *ring;
    int rc;

    if (*count == AB_QUIC_PORT_PEERS)
        return ab_fail(err, AB_EINVAL, "a worker hands packets over to %d others at most", AB_QUIC_PORT_PEERS);
    ring = aligned_alloc(AB_CACHELINE, sizeof(*ring));
    if (!ring)
        return ab_fail(err, AB_ENOMEM, "no memory for a ring between workers");
    rc = ab_quic_ring_open(ring, memory, bytes, AB_QUIC_EVENT_BYTES, outgoing, err);
    if (rc) {
        free(ring);
        return rc;
    }
    rings[(*count)++] = ring;
    return 0;
}

int ab_quic_port_show(struct ab_quic_port *p, void *memory, uint64_t bytes, struct ab_error *err)
{
    const char *reason = "", *name = ab_quic_crypto_name(p->quic, &reason);
    int rc = ab_quic_rows_open(&p->rows, memory, bytes, err);

    if (rc)
        return rc;
    strncpy((char *)p->rows.head->crypto, name, sizeof(p->rows.head->crypto) - 1);
    strncpy((char *)p->rows.head->crypto_reason, reason ? reason : "", sizeof(p->rows.head->crypto_reason) - 1);
    return 0;
}

void ab_quic_port_free(struct ab_quic_port *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < p->to_count; i++)
        free(p->to[i]);
    for (uint32_t i = 0; i < p->from_count; i++)
        free(p->from[i]);
    if (p->worker->guest.ctx == p)
        p->worker->guest = (struct ab_guest){0};
    if (p->quic)
        ab_quic_free(p->quic);
    free(p->message);
    free(p->seen);
    free(p);
}
