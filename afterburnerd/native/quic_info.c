/* What others may see of the engine: a connection as a row of the table in shared memory, with more beside it for who
 * has the engine at hand, and the engine's totals. Nothing secret is in any of it: no key, no connection ID, no token.
 */
#include <string.h>

#include "quic_conn.h"

uint64_t ab_quic_conn_id(const struct ab_quic_conn *c)
{
    return c->id;
}

uint32_t ab_quic_conn_index(const struct ab_quic_conn *c)
{
    return c->index;
}

void ab_quic_conn_row(const struct ab_quic_conn *c, struct ab_quic_row *row)
{
    const struct ab_path *path = ab_quic_conn_path(c);

    *row = (struct ab_quic_row){
        .id = c->id,
        .adopted_ns = c->adopted_ns,
        .local_port = path->local_port,
        .remote_port = path->remote_port,
        .role = c->server ? AB_QUIC_SERVER : AB_QUIC_CLIENT,
        .state = (uint8_t)c->state,
        .suite = (uint8_t)c->keys.suite,
        .io = path->io,
        .slot = path->slot,
        .mtu = (uint16_t)c->mtu.size,
        .ecn = (uint8_t)c->ecn.state,
        .trace = c->trace,
        .tx_generation = c->keys.tx_generation,
        .rx_generation = c->keys.rx_generation,
        .srtt_ns = c->rtt.smoothed_ns,
        .rttvar_ns = c->rtt.var_ns,
        .min_rtt_ns = c->rtt.min_ns,
        .latest_rtt_ns = c->rtt.latest_ns,
        .pto_ns = ab_quic_conn_pto(c),
        .cwnd = c->cc.window,
        .in_flight = c->cc.in_flight,
        .slots = c->slot_count,
        .uni_opened = c->uni_next,
        .uni_limit = c->uni_limit,
        .bidi_opened = c->bidi_next,
        .bidi_limit = c->bidi_limit,
        .data_sent = c->tx_data,
        .data_limit = c->tx_limit,
        .streams = c->object_count,
        .counts = c->counts,
    };
    memcpy(row->local, path->local, sizeof(row->local));
    memcpy(row->remote, path->remote, sizeof(row->remote));
}

void ab_quic_conn_info(const struct ab_quic *q, const struct ab_quic_conn *c, struct ab_quic_info *info)
{
    uint64_t queued =
        (uint64_t)c->again.count + c->controls.count + c->crypto.count + c->datagrams.count + c->uni.count;

    for (uint32_t i = c->objects; i != AB_QUIC_NIL; i = q->streams.objects[i].next)
        queued += q->streams.objects[i].queue.count;
    ab_quic_conn_row(c, &info->row);
    info->next_pn = c->sent.next;
    info->queued = queued;
    info->unacked = c->slot_count > queued ? c->slot_count - queued : 0;
    info->path = ab_quic_conn_path(c);
}

const struct ab_path *ab_quic_conn_path(const struct ab_quic_conn *c)
{
    return &c->paths[AB_QUIC_PATH_ACTIVE].to;
}

const struct ab_quic_counts *ab_quic_conn_counts(const struct ab_quic_conn *c)
{
    return &c->counts;
}

void ab_quic_totals(const struct ab_quic *q, struct ab_quic_totals *t)
{
    *t = q->totals;
    t->connections = q->conn_count;
    t->slots = q->slots.total;
    t->slots_used = q->slots.used;
    t->blocks = q->blocks.total;
    t->blocks_used = q->blocks.used;
    t->objects = q->streams.total;
    t->objects_used = q->streams.used;
    t->memory_bytes = q->memory_bytes + sizeof(*q);
    t->connection_bytes = sizeof(struct ab_quic_conn) + (q->config.uni_window + q->config.bidi_window) / 8 +
                          AB_QUIC_CIDS_MAX * 4 * sizeof(struct ab_quic_hashed) +
                          AB_QUIC_BLOCK * sizeof(struct ab_quic_sent_packet);
}

const char *ab_quic_crypto_name(const struct ab_quic *q, const char **reason)
{
    if (reason)
        *reason = q->crypto.reason;
    return q->crypto.name;
}
