/* What others see of the engine: a worker's counters, and a row for each connection.
 *
 * Counters live in connections, and a scan of 4,096 of them in one turn would be a pause. So a few are looked at in
 * each turn, in a circle, and one that ends is looked at then; what it has counted since goes into sums that only grow.
 */
#include "quic_port_parts.h"

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

void ab_quic_port_last_look(struct ab_quic_port *p, uint64_t id, const struct ab_quic_closed *closed)
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

/* Counters go on where the former process left them. */
#define COUNT(name, value) AB_STAT_SET(&s->name, p->base.name + (uint64_t)(value))

void ab_quic_port_beat(void *port, uint64_t now)
{
    struct ab_quic_port *p = port;
    struct ab_stats_worker *s = p->worker->stats;
    struct ab_quic_totals t;

    look_around(p, now);
    ab_quic_totals(p->quic, &t);
    AB_STAT_SET(&s->quic_connections, t.connections);
    AB_STAT_SET(&s->quic_connections_limit, p->connections_limit);
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
    COUNT(quic_strays_dropped, p->strays_dropped);
    COUNT(quic_handovers_dropped, p->handovers_dropped);
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
    COUNT(quic_blocked_streams_ns, p->counts.blocked_streams_ns);
    COUNT(quic_blocked_window_ns, p->counts.blocked_window_ns);
    COUNT(quic_pushed_back, t.pushed_back);
    COUNT(quic_commands, p->commands_done);
    COUNT(quic_events, p->events_told);
    COUNT(quic_send_drops, p->send_drops);
}
