#include "quic_rows.h"

#include <string.h>

#include "quic_conn.h"

int ab_quic_rows_open(struct ab_quic_rows_writer *w, void *memory, uint64_t bytes, struct ab_error *err)
{
    struct ab_quic_rows *head = memory, said;

    *w = (struct ab_quic_rows_writer){0};
    if (bytes < sizeof(said) || (uintptr_t)memory % AB_CACHELINE)
        return ab_fail(err, AB_ELAYOUT,
                       "table of connections: %llu bytes of shared memory at %p are too few or not aligned",
                       (unsigned long long)bytes, memory);
    /* Copied once, then judged: whoever else can write it shall not change it in between. */
    memcpy(&said, head, sizeof(said));
    __asm__ volatile("" : : "r"(&said) : "memory"); /* nor the compiler read it again */
    if (said.magic != AB_QUIC_ROWS_MAGIC || said.version != AB_VERSION)
        return ab_fail(err, AB_ELAYOUT, "table of connections: none of layout version %d in %llu bytes of memory",
                       AB_VERSION, (unsigned long long)bytes);
    if (said.row_bytes != sizeof(struct ab_quic_row) || said.rows == 0 || said.rows > UINT32_MAX ||
        said.rows > (bytes - sizeof(said)) / sizeof(struct ab_quic_row))
        return ab_fail(err, AB_ELAYOUT, "table of connections: %llu rows of %llu bytes do not fit %llu bytes",
                       (unsigned long long)said.rows, (unsigned long long)said.row_bytes, (unsigned long long)bytes);
    *w = (struct ab_quic_rows_writer){
        .head = head, .rows = (struct ab_quic_row *)(head + 1), .count = (uint32_t)said.rows};
    for (uint32_t i = 0; i < w->count; i++)
        if (w->rows[i].id || w->rows[i].seq & 1) /* odd: a process was killed in the middle of a row */
            ab_quic_rows_free(w, i, 0);
    return 0;
}

static uint64_t begin(struct ab_quic_row *row)
{
    uint64_t seq = (__atomic_load_n(&row->seq, __ATOMIC_RELAXED) + 1) | 1;

    __atomic_store_n(&row->seq, seq, __ATOMIC_RELAXED);
    /* Publishes "being written" to readers before any byte of it can be seen. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    return seq;
}

/* The sequence word comes first and is written apart. */
static void publish(struct ab_quic_row *row, const struct ab_quic_row *from)
{
    uint64_t seq = begin(row);

    memcpy((uint8_t *)row + sizeof(row->seq), (const uint8_t *)from + sizeof(row->seq),
           sizeof(*row) - sizeof(row->seq));
    /* Publishes the whole row to whoever reads its sequence word. */
    __atomic_store_n(&row->seq, seq + 1, __ATOMIC_RELEASE);
}

void ab_quic_rows_write(struct ab_quic_rows_writer *w, uint32_t index, const struct ab_quic_conn *c, uint64_t now)
{
    const struct ab_path *path = &c->paths[AB_QUIC_PATH_ACTIVE].to;
    struct ab_quic_row row = {
        .id = c->id,
        .time_ns = now,
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

    memcpy(row.local, path->local, sizeof(row.local));
    memcpy(row.remote, path->remote, sizeof(row.remote));
    if (ab_likely(index < w->count))
        publish(&w->rows[index], &row);
}

void ab_quic_rows_free(struct ab_quic_rows_writer *w, uint32_t index, uint64_t now)
{
    if (index < w->count)
        publish(&w->rows[index], &(struct ab_quic_row){.time_ns = now});
}
